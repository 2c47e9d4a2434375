"""How the command line ends: every error is a sentence and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

from danlu.cli.streams import sturdy_streams
from danlu.errors import DanluError, Interrupted, printable, reason_of
from danlu.memory import is_out_of_memory

_INTERRUPTED = 130  # as shells have it: 128 and the number of the signal
_OURS = 70  # EX_SOFTWARE of sysexits.h: an error of danlu's own


class Pressed(BaseException):
    """Ctrl-C, by a name that Typer does not know: it would swallow the other."""


def run(app: Callable[[], object], own_process: bool) -> None:
    """Run a command to its end. Raises SystemExit.

    own_process: whether the process ends with it.
    """
    code = 0
    with sturdy_streams():
        try:
            try:
                app()
            finally:
                _ignore_interrupts(own_process)
        except DanluError as e:
            code = _refuse(e)
        except (KeyboardInterrupt, Pressed) as e:
            _ignore_interrupts(own_process)
            code = _interrupted(e)
        except BrokenPipeError:  # the reader of our output left
            code = 0
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else int(e.code is not None)
            if code == _INTERRUPTED:  # Typer's way of saying so
                code = _interrupted(e)
        except Exception as e:  # no user should see a traceback, whatever we got wrong
            code = _tell(e)
    sys.exit(code)


def _interrupted(e: BaseException) -> int:
    """Say that a command was interrupted; return the exit code.

    Who pressed again while a first interrupt was being told wants to read what that had to say.
    """
    cause: BaseException | None = e
    while cause is not None:
        if isinstance(cause, Interrupted):
            return _refuse(cause)
        cause = cause.__cause__ or cause.__context__
    print("danlu: interrupted", file=sys.stderr)
    return _INTERRUPTED


def _refuse(e: DanluError) -> int:
    """Print an error's mistakes; return its exit code."""
    for mistake in e.mistakes:
        print(f"danlu: {printable(mistake)}", file=sys.stderr)
    return e.exit_code


def _ignore_interrupts(own_process: bool) -> None:
    """Have Ctrl-C do nothing while the process ends: pressed thrice, it must give no traceback."""
    if own_process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _tell(e: Exception) -> int:
    """Say what no one foresaw, and where its details are; return the exit code."""
    if os.environ.get("DANLU_DEBUG"):
        traceback.print_exc()
        return _OURS
    if is_out_of_memory(e):
        print(f"danlu: memory ran out: {printable(reason_of(e))}", file=sys.stderr)
        return 1
    kind = f"{type(e).__name__}: {reason_of(e)}"
    print(f"danlu: an error of danlu's own ({printable(kind)}){_kept(e)}", file=sys.stderr)
    return _OURS


def _kept(e: Exception) -> str:
    """Write an error's details into the user's cache; return words on where they are."""
    from danlu.data.memmap import cache_folder

    try:
        file = cache_folder("errors") / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        file.write_text("".join(traceback.format_exception(e)), encoding="utf-8", errors="replace")
    except OSError:
        return "; DANLU_DEBUG=1 shows its details"
    return f"; please report it, with {file}"
