"""Plain lines, without the library that draws tables."""

from __future__ import annotations

import sys

from danlu.errors import printable


def tell(line: object) -> None:
    """Print a line as it is, whatever its length."""
    print(printable(line), flush=True)


def note(line: object) -> None:
    """Print a line on standard error, where it is in no reader's way."""
    print(printable(line), file=sys.stderr)
