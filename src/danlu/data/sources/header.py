"""Whether the first line of a table names its columns, and the second their units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from danlu.data.sources.columns import LABELS_OF_TEXT, PAIRS, TEXT
from danlu.data.sources.separators import EVEN, LINES, NUMBER, Rows, first_lines, split_lines
from danlu.data.tables.cells import MISSING_MARKS
from danlu.errors import some

if TYPE_CHECKING:
    import pandas as pd

_FEWEST_ROWS = 3  # by which a line of units is told
_ENOUGH = 10  # cells: fewer do not show that words repeat
_KNOWN_NAMES = {
    *TEXT,
    *LABELS_OF_TEXT,
    *(name for pair in PAIRS for name in pair),
    "id",
    "word",
    "token",
}


@dataclass(frozen=True)
class Dialect:
    """Whether the first line names the columns, and what is to be said of it."""

    has_header: bool
    notices: tuple[str, ...] = ()


def sniff(text: str, name: str, sign: str, header: str | None) -> Dialect:
    """Return whether the first line names the columns; header: what the user says of it."""
    if header is not None:
        return Dialect(header == "first")
    rows = split_lines(first_lines(text), sign)
    votes = votes_for_names(rows)
    if votes < 0 or (votes == 0 and not _are_names(rows[0])):
        notice = (
            f"the first line of {name} is read as a row, so columns are named c1, c2, …; "
            "--header first takes it as names"
        )
        return Dialect(False, (notice,))
    if all(NUMBER.fullmatch(cell.strip()) for cell in rows[0] if cell.strip()):
        notice = (
            f"every cell of the first line of {name} is a number, but it is read as names; "
            "--header none takes it as a row"
        )
        return Dialect(True, (notice,))
    if votes == 0:
        shown = some((repr(cell) for cell in rows[0]), 4)
        notice = (
            f"{shown} in the first line of {name} read as names; --header none takes it as a row"
        )
        return Dialect(True, (notice,))
    return Dialect(True)


def votes_for_names(rows: Rows) -> int:
    """Return more than 0 where the first row holds names of columns, less where it holds cells."""
    first, *others = [[cell.strip() for cell in row] for row in rows]
    if not others:
        return 1
    if {cell.lower() for cell in first} & _KNOWN_NAMES or "" in first[:1]:
        return 1
    even = [row for row in others if len(row) == len(first)]
    columns = zip(*even, strict=True)
    return sum(_vote(name, cells) for name, cells in zip(first, columns, strict=False))


def _are_names(cells: Sequence[str]) -> bool:
    stripped = [cell.strip() for cell in cells]
    return len(set(stripped)) == len(stripped) and all(map(_looks_like_name, stripped))


def _vote(name: str, cells: Sequence[str]) -> int:
    """Return 1 where a first cell is unlike those below it, −1 where it is one of them, else 0."""
    present = [cell for cell in cells if cell.lower() not in MISSING_MARKS]
    if not present or not name:
        return 0
    numeric = sum(bool(NUMBER.fullmatch(cell)) for cell in present) / len(present)
    if numeric > EVEN:
        is_number = bool(NUMBER.fullmatch(name)) or name.lower() in MISSING_MARKS
        return -1 if is_number else 1
    if name in present:
        return -1
    # Where words repeat, one that does not is no such word.
    return 1 if len(present) >= _ENOUGH and len(set(present)) < len(present) / 2 else 0


def _looks_like_name(cell: str) -> bool:
    return bool(re.fullmatch(r"[^\W\d][\w .()/#%-]{0,40}", cell)) and not cell.endswith(".")


def without_units(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[str]]:
    """Return a table without a second line of names, such as units: cm, kg."""
    if len(frame) < _FEWEST_ROWS:
        return frame, []
    first, rest = frame.iloc[0], frame.iloc[1 : LINES + 1]
    numeric = []
    for column in frame.columns:
        cells = [str(cell).strip() for cell in rest[column] if str(cell).strip()]
        present = [cell for cell in cells if cell.lower() not in MISSING_MARKS]
        if present and all(NUMBER.fullmatch(cell) for cell in present):
            numeric.append(str(first[column]).strip())
    are_words = [bool(cell) and cell.lower() not in MISSING_MARKS for cell in numeric]
    if len(numeric) < 2 or not all(are_words) or any(map(NUMBER.fullmatch, numeric)):
        return frame, []
    told = f"the second line of {name} left out: {some(map(repr, numeric))} are units or names"
    return frame.iloc[1:].reset_index(drop=True), [told]
