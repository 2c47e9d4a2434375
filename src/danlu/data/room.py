"""How much memory reading may take: what was asked for, else half of this machine's.

What would take more is refused before it is read, as far as a file tells; what tells nothing, or
the wrong thing, is refused as soon as it is too much.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from typing import Any

from danlu.data.memmap import parse_bytes
from danlu.errors import DataError, asked_as
from danlu.memory import as_bytes, total_memory

# Bytes of memory, measured: for one of a text (itself, decoded, and a copy that is being changed),
# for a line, a cell of a table, a value of JSON, a text to be learnt from, and each of its
# characters; for one of a spreadsheet, unpacked.
PER_BYTE_OF_TEXT = 4
_PER_LINE = 250
_PER_CELL = 90
_PER_VALUE = 180
_PER_TEXT = 400
_PER_CHARACTER = 16
_PER_BYTE_OF_SHEET = 8
_MOST_COLUMNS = 100_000  # each is examined by itself
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
    if _budget.get() is not None and not least and size < total_memory():
        enough = f"{math.ceil(size / 1e8) / 10:g}GB"
        hint = f"make it smaller, or allow more with {asked_as('memory', enough)}"
    raise DataError(
        f"{what} takes {about} {as_bytes(size)} of memory to read, but may take "
        f"{as_bytes(budget)}; {hint}"
    )


def claim_table(cells: int, buffers: int, name: str, least: bool = False) -> None:
    """Raise DataError where a table takes more; buffers: bytes of what its cells are read from."""
    claim(_PER_CELL * cells + buffers, name, least)


def claim_lines(text: str, name: str) -> None:
    """Raise DataError where the lines of a text, each an object or more, take more."""
    claim(_PER_LINE * text.count("\n") + PER_BYTE_OF_TEXT * len(text), name)


def claim_sheet(size: int, name: str) -> None:
    """Raise DataError where a spreadsheet takes more; size: of what is in it, unpacked."""
    claim(_PER_BYTE_OF_SHEET * size, name)


def claim_texts(texts: Collection[Any], name: str) -> None:
    """Raise DataError where texts that are turned into tokens take more."""
    claim(_PER_TEXT * len(texts), name)
    characters = sum(len(text) for text in texts if isinstance(text, str))
    claim(_PER_TEXT * len(texts) + _PER_CHARACTER * characters, name)


def claim_json(text: str, name: str) -> None:
    """Raise DataError where a JSON text takes more."""
    values = sum(map(text.count, ",:[{"))  # the least that a value takes is such a sign
    claim(_PER_VALUE * values + PER_BYTE_OF_TEXT * len(text), name)


def check_width(columns: int, name: str) -> None:
    """Raise DataError for a table of too many columns."""
    if columns > _MOST_COLUMNS:
        raise DataError(
            f"{name} has {columns:,} columns, but may have {_MOST_COLUMNS:,}; turn rows and "
            "columns round, or save numbers as a .npy file"
        )
