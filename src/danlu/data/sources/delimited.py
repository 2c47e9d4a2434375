"""Tables in text files: what separates their cells, and whether the first line names them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from danlu.data.reading_memory import check_table_fits, check_width
from danlu.data.sources.header import sniff, without_units
from danlu.data.sources.separators import (
    COMMENTS,
    EVEN,
    SEPARATORS,
    first_lines,
    most_cells,
    separator_of,
    split_lines,
    with_one_sign,
)
from danlu.errors import DataError, count, reason_of, some

if TYPE_CHECKING:
    import pandas as pd

_SAYS_SEPARATOR = re.compile(r"sep=(.)[ \t]*\n", re.I)
_MOST_REMARKS = 20  # lines above the table
_SURE_WIDTH = 3  # cells: above rows of so many, a line of two fewer is a remark


class Delimited(NamedTuple):
    """A table whose cells are text as it is written, and how it was read."""

    frame: pd.DataFrame
    notices: tuple[str, ...]
    separator: str


def read_delimited(
    text: str,
    name: str,
    separator: str | None = None,
    header: str | None = None,
) -> Delimited:
    """Return the table that is written in a text.

    separator: a sign or its title; header: "none" or "first". Without them the lines decide.
    Raises DataError for lines that no table has.
    """
    if not text.strip():
        raise DataError(f"{name} is empty; a table needs a row for each example")
    text = text.replace("\r\n", "\n")
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as old Macs end lines; beside others it is of a text
    text = _without_outer_quotes(text)
    named = _SAYS_SEPARATOR.match(text)
    if named:  # as spreadsheets write it for each other
        text = text[named.end() :]
        separator = separator or named[1]
    sign, told = separator_of(text, name, separator)
    _check_size(text, name, sign)
    found = sign
    text, skipped = _from_first_row(text, sign, name)
    dialect = sniff(text, name, sign, header)
    text, sign = with_one_sign(text, sign)
    frame, notices = _parse(text, name, sign, dialect.has_header)
    if frame.empty:
        raise DataError(f"{name} has no rows; a table needs a row for each example")
    return Delimited(frame, (*told, *skipped, *dialect.notices, *notices), found)


def _check_size(text: str, name: str, sign: str) -> None:
    """Raise DataError for a table that is too large or too wide, before it is read."""
    rows = split_lines(first_lines(text), sign)
    check_width(max(map(len, rows)), name)
    cells = text.count(sign) + text.count("\n") + 1
    check_table_fits(cells, 2 * len(text), name)


def _without_outer_quotes(text: str) -> str:
    """Return text whose lines are no longer quoted whole, as some programs export them."""
    lines = first_lines(text)
    is_quoted = all(re.fullmatch(r'"[^"]*(""[^"]*)*"', line) for line in lines)
    if not is_quoted or not any(sign in lines[0] for sign in SEPARATORS.values()):
        return text
    inner = re.sub(r'^"(.*)"$', r"\1", text, flags=re.MULTILINE)
    return inner.replace('""', '"')


def _from_first_row(text: str, sign: str, name: str) -> tuple[str, list[str]]:
    """Return the text from the line of names or the first row on: what is above are remarks."""
    lines = first_lines(text)
    if all(line.lstrip().startswith(COMMENTS) for line in lines):
        return text, []  # the sign belongs to the cells
    rows = split_lines(lines, sign)
    width = most_cells(rows)
    filled = most_cells([_without_empty_end(row) for row in rows])
    skipped = 0
    while True:
        line, _, rest = text.partition("\n")
        if not rest or skipped == _MOST_REMARKS:
            break
        is_remark = line.lstrip().startswith(COMMENTS)
        cells = len(_cells(line, sign))
        is_short = filled >= _SURE_WIDTH and cells <= filled - 2
        if is_remark and cells == width:
            # Names behind a sign for remarks, as numerical programs write them.
            text = line.lstrip().lstrip("".join(COMMENTS)).lstrip() + "\n" + rest
            break
        if line.strip() and not is_remark and not is_short:
            break
        text = rest
        skipped += bool(line.strip())
    if not skipped:
        return text, []
    return text, [f"{count(skipped, 'line')} at the beginning of {name} left out as remarks"]


def _cells(line: str, sign: str) -> list[str]:
    rows = split_lines([line], sign)
    return rows[0] if rows else []


def _parse(text: str, name: str, sign: str, has_header: bool) -> tuple[pd.DataFrame, list[str]]:
    import pandas as pd

    if has_header:
        text = _with_whole_header(text, sign)
    frame = _read_csv(text, name, sign)
    notices = []
    if '"' not in text:
        width = frame.shape[1] - 1
        short = sum(line.count(sign) < width for line in text.split("\n") if line.strip())
        if short:
            notices.append(
                f"{count(short, 'row')} of {name} with fewer cells than the others; those that "
                "lack are taken as missing"
            )
    if not has_header:
        frame.columns = pd.Index([f"c{k + 1}" for k in range(frame.shape[1])])
        return frame, notices
    frame.columns = pd.Index(["" if pd.isna(title) else title for title in frame.iloc[0]])
    frame, renamed = with_single_names(frame.iloc[1:].reset_index(drop=True))
    frame, units = without_units(frame, name)
    return frame, [*notices, *renamed, *units]


def _without_empty_end(row: list[str]) -> list[str]:
    while row and not row[-1].strip():
        row = row[:-1]
    return row


def _with_whole_header(text: str, sign: str) -> str:
    """Return text whose first line has as many cells as the others.

    It lacks some where rows end with separators, or begin with a name that has no title.
    """
    header, *others = split_lines(first_lines(text), sign)
    width = most_cells(others)
    lacks = width - len(header)
    if lacks < 1:
        return text
    line, _, rest = text.partition("\n")
    fits = sum(len(_without_empty_end(row)) <= len(header) for row in others)
    if fits >= EVEN * len(others):
        return f"{line}{sign * lacks}\n{rest}"
    return f"{sign}{line}\n{rest}" if lacks == 1 else text


def _read_csv(text: str, name: str, sign: str) -> pd.DataFrame:
    """Return the cells of a text; quotation marks hold a cell together, or belong to it."""
    lines = [line for line in text.split("\n") if line.strip()]
    width = lines[0].count(sign)
    if '"' not in text or any(line.count(sign) != width for line in lines):
        return _cells_of(text, name, sign, csv.QUOTE_MINIMAL)
    # Each line is a row of its own, whatever a quotation mark that is not closed would hold.
    try:
        frame = _cells_of(text, name, sign, csv.QUOTE_MINIMAL)
    except DataError:
        return _cells_of(text, name, sign, csv.QUOTE_NONE)
    if len(frame) < len(lines):
        return _cells_of(text, name, sign, csv.QUOTE_NONE)
    return frame


def _cells_of(text: str, name: str, sign: str, quoting: int) -> pd.DataFrame:
    import pandas as pd

    try:
        frame: pd.DataFrame = pd.read_csv(  # type: ignore[call-overload]
            io.BytesIO(text.encode()),  # a text would take four times the memory
            sep=sign,
            header=None,
            dtype="string",
            keep_default_na=False,
            na_values=[],
            skipinitialspace=True,
            quoting=quoting,
            lineterminator="\n",
        )
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as e:
        ragged = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(e))
        if ragged:
            wanted, line, saw = ragged.groups()
            raise DataError(
                f"line {line} of {name} has {saw} cells, but those before it have {wanted}; "
                "correct that line, or name the --separator"
            ) from e
        raise DataError(f"{name} is no table: {reason_of(e)}") from e
    return frame


def with_single_names(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return a table whose columns are named by text, those of one name numbered."""
    seen: Counter[str] = Counter()
    names = []
    repeated = []
    for title in frame.columns:
        name = str(title).strip()
        seen[name] += 1
        if seen[name] > 1:
            repeated.append(name)
            name = f"{name}.{seen[name] - 1}"
        names.append(name)
    frame = frame.set_axis(names, axis=1)
    notices = []
    if repeated:
        notices.append(
            f"{some(map(repr, dict.fromkeys(repeated)))} names "
            f"{count(len(repeated) + 1, 'column')}; the later ones are numbered"
        )
    return frame, notices
