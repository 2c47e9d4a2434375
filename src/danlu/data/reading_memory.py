"""How much memory reading may take: what was asked for, else half of this machine's.

What would take more is refused before it is read, as far as a file tells; what tells nothing, or
the wrong thing, is refused as soon as it is too much.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from typing import Any

from danlu.data.memmap import parse_bytes
from danlu.errors import DataError, asked_as
from danlu.memory import as_bytes, total_memory

# Bytes of memory that reading took for one of each, measured.
PER_BYTE_OF_TEXT = 4  # itself, decoded, and a copy that is being changed
_PER_LINE = 400
_PER_CELL = 70
_PER_VALUE = 180  # of JSON
_PER_TEXT = 400  # to be learnt from
_PER_CHARACTER = 16  # of such a text
_PER_BYTE_OF_SHEET = 8  # unpacked
_LEAST = 100_000_000  # that reading may always take
_MOST_COLUMNS = 100_000  # each is examined by itself
_JSON_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
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
    """Return how many bytes reading may take: never less than libraries do by themselves."""
    budget = _budget.get()
    return max(_LEAST, parse_bytes(None) if budget is None else budget)


def check_fits(size: float, what: str, least: bool = False) -> None:
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


def check_table_fits(cells: int, buffers: int, name: str, least: bool = False) -> None:
    """Raise DataError where a table takes more; buffers: bytes of what its cells are read from."""
    check_fits(_PER_CELL * cells + buffers, name, least)


def check_lines_fit(text: str, name: str) -> None:
    """Raise DataError where the lines of a text, each an object or more, take more."""
    check_fits(_PER_LINE * text.count("\n") + PER_BYTE_OF_TEXT * len(text), name)


def check_sheet_fits(size: int, name: str) -> None:
    """Raise DataError where a spreadsheet takes more; size: of what is in it, unpacked."""
    check_fits(_PER_BYTE_OF_SHEET * size, name)


def check_texts_fit(texts: Collection[Any], name: str) -> None:
    """Raise DataError where texts that are turned into tokens take more."""
    check_fits(_PER_TEXT * len(texts), name)  # before millions of them are looked at
    characters = sum(len(text) for text in texts if isinstance(text, str))
    check_fits(_PER_TEXT * len(texts) + _PER_CHARACTER * characters, name)


def check_json_fits(text: str, name: str) -> None:
    """Raise DataError where a JSON text takes more."""
    if _size_of_json(text) > reading_budget():  # signs within texts are no values
        check_fits(_size_of_json(_JSON_TEXT.sub('""', text)) + PER_BYTE_OF_TEXT * len(text), name)


def _size_of_json(text: str) -> int:
    values = sum(map(text.count, ",:[{"))  # the least that a value takes is such a sign
    return _PER_VALUE * values + PER_BYTE_OF_TEXT * len(text)


def check_width(columns: int, name: str) -> None:
    """Raise DataError for a table of too many columns."""
    if columns > _MOST_COLUMNS:
        raise DataError(
            f"{name} has {columns:,} columns, but may have {_MOST_COLUMNS:,}; transpose it, or "
            "save numbers as a .npy file"
        )
