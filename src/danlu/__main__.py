"""`danlu` and `python -m danlu`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line."""
    is_pythons_own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # While it is imported there is nothing to save: Ctrl-C ends it, without a traceback.
    if is_pythons_own:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from danlu.cli import main as run

    if is_pythons_own:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run(own_process=is_pythons_own)


if __name__ == "__main__":
    main()
