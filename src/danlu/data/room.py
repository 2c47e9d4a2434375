"""How much memory reading may take: what was asked for, else half of this machine's.

What would take more is refused before it is read, as far as a file tells; what tells nothing, or
the wrong thing, is refused as soon as it is too much.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar

from danlu.data.memmap import parse_bytes
from danlu.errors import DataError, asked_as

# Bytes of memory for one of a text: itself, decoded, and a copy that is being changed.
PER_BYTE_OF_TEXT = 4
_budget: ContextVar[int | None] = ContextVar("budget", default=None)


@contextlib.contextmanager
def reading_within(budget: int) -> Iterator[None]:
    """Let what is read take at most so many bytes of memory."""
    token = _budget.set(budget)
    try:
        yield
    finally:
        _budget.reset(token)


def reading_budget() -> int:
    """Return how many bytes reading may take."""
    budget = _budget.get()
    return parse_bytes(None) if budget is None else budget


def claim(size: float, what: str, least: bool = False) -> None:
    """Raise DataError where something takes more memory than reading may.

    size: in bytes; what: a name, "t.csv"; least: whether it is only known to take no less.
    """
    budget = reading_budget()
    if size <= budget:
        return
    about = "more than" if least else "about"
    hint = "give it in parts"
    if _budget.get() is not None and not least:
        enough = f"{math.ceil(size / 1e8) / 10:g}GB"
        hint = f"make it smaller, or allow more with {asked_as('memory', enough)}"
    raise DataError(
        f"{what} takes {about} {shown(size)} of memory to read, but may take {shown(budget)}; "
        f"{hint}"
    )


def shown(size: float) -> str:
    """Return bytes as people write them: 12.4 GB, 300 MB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
