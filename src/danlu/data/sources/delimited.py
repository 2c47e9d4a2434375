"""Tables in text files: what separates their cells, and whether the first line names them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from danlu.data.sources.columns import LABELS_OF_TEXT, PAIRS, TEXT
from danlu.data.tables.cells import MISSING_MARKS
from danlu.errors import DataError, count, reason_of, some, wrong
from danlu.host import csv_cells_of

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "bar": "|",
    "blanks": " ",
    "colons": "::",
}
_TITLES = {sign: title for title, sign in SEPARATORS.items()}
LINES = 200  # by which the dialect is told
_EVEN = 0.9  # of the lines: so many have as many cells as most
_SAYS_SEPARATOR = re.compile(r"sep=(.)[ \t]*\n", re.I)
_NUMBER = re.compile(r"[+-]?(\d[\d,.' ]*|\.\d+)([eE][+-]?\d+)?\s*%?")
_COMMENTS = ("#", "%", "//", "|")
_MOST_REMARKS = 20  # lines above the table
_NUMERIC = 0.5  # of the cells: so many are numbers where blanks set cells apart
_ENOUGH = 10  # cells: fewer do not show that words repeat
_SURE_WIDTH = 3  # cells: above rows of so many, a line of two fewer is a remark
_KNOWN_NAMES = {
    *TEXT,
    *LABELS_OF_TEXT,
    *(name for pair in PAIRS for name in pair),
    "id",
    "word",
    "token",
}

Rows = list[list[str]]


@dataclass(frozen=True)
class Dialect:
    """Whether the first line names the columns, and what is to be said of it."""

    has_header: bool
    notices: tuple[str, ...] = ()


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
    sign, told = _separator(text, name, separator)
    found = sign
    text, skipped = _from_first_row(text, sign, name)
    dialect = sniff(text, name, sign, header)
    text, sign = _with_one_sign(text, sign)
    frame, notices = _parse(text, name, sign, dialect.has_header)
    if frame.empty:
        raise DataError(f"{name} has no rows; a table needs a row for each example")
    return Delimited(frame, (*told, *skipped, *dialect.notices, *notices), found)


def _without_outer_quotes(text: str) -> str:
    """Return text whose lines are no longer quoted whole, as some programs export them."""
    lines = first_lines(text)
    is_quoted = all(re.fullmatch(r'"[^"]*(""[^"]*)*"', line) for line in lines)
    if not is_quoted or not any(sign in lines[0] for sign in SEPARATORS.values()):
        return text
    inner = re.sub(r'^"(.*)"$', r"\1", text, flags=re.MULTILINE)
    return inner.replace('""', '"')


def _separator(text: str, name: str, given: str | None) -> tuple[str, list[str]]:
    lines = first_lines(text)
    if given is None:
        sign = best_separator(lines)
        if sign == ",":
            return sign, []
        return sign, [f"{name} is separated by {_TITLES[sign]}; --separator reads it otherwise"]
    sign = SEPARATORS.get(given.lower(), given.replace("\\t", "\t"))
    if len(sign) != 1 and sign not in SEPARATORS.values():
        known = ", ".join(SEPARATORS)
        raise DataError(wrong("separator", given, f"must be one sign, or {known}"))
    if all(len(row) < 2 for row in split_lines(lines, sign)):
        raise DataError(wrong("separator", given, f"leaves one column of {name}", "leave it out"))
    return sign, []


def _from_first_row(text: str, sign: str, name: str) -> tuple[str, list[str]]:
    """Return the text from the line of names or the first row on: what is above are remarks."""
    lines = first_lines(text)
    if all(line.lstrip().startswith(_COMMENTS) for line in lines):
        return text, []  # the sign belongs to the cells
    rows = split_lines(lines, sign)
    width = _most_cells(rows)
    filled = _most_cells([_without_empty_end(row) for row in rows])
    skipped = 0
    while True:
        line, _, rest = text.partition("\n")
        if not rest or skipped == _MOST_REMARKS:
            break
        is_remark = line.lstrip().startswith(_COMMENTS)
        cells = len(_cells(line, sign))
        is_short = filled >= _SURE_WIDTH and cells <= filled - 2
        if is_remark and cells == width:
            # Names behind a sign for remarks, as numerical programs write them.
            text = line.lstrip().lstrip("".join(_COMMENTS)).lstrip() + "\n" + rest
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
    if all(_NUMBER.fullmatch(cell.strip()) for cell in rows[0] if cell.strip()):
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


def first_lines(text: str) -> list[str]:
    """Return some lines that hold cells: neither blank nor a comment."""
    found = []
    # Split only as far as is looked at: a file may be large.
    for line in io.StringIO(text):
        if line.strip() and not line.lstrip().startswith(_COMMENTS):
            found.append(line.rstrip("\n"))
        if len(found) == LINES:
            break
    # Where every line begins like a remark, none is one.
    return found or [line for line in text.split("\n", LINES)[:LINES] if line.strip()]


def split_lines(lines: Sequence[str], sign: str) -> Rows:
    """Return the cells of lines. A quoted cell may hold the sign, and line ends."""
    text, sign = _with_one_sign("\n".join(lines), sign)
    with csv_cells_of(len(text) + 1):
        try:
            return [row for row in csv.reader(io.StringIO(text), delimiter=sign) if row]
        except csv.Error:
            return [line.split(sign) for line in lines]


def _with_one_sign(text: str, sign: str) -> tuple[str, str]:
    """Return text and sign such that one sign separates two cells."""
    if sign == " ":
        return _with_tabs(text), "\t"
    if len(sign) > 1:
        return text.replace(sign, "\t"), "\t"
    return text, sign


def _with_tabs(text: str) -> str:
    """Return text whose cells, set apart by blanks, are set apart by tabs; quotes hold together."""
    found = []
    for line in text.split("\n"):
        cells = re.findall(r'"[^"]*"|\'[^\']*\'|[^\s]+', line)
        found.append("\t".join(cells))
    return "\n".join(found)


def _most_cells(rows: Rows) -> int:
    """Return how many cells most rows have."""
    return Counter(map(len, rows)).most_common(1)[0][0] if rows else 0


def best_separator(lines: Sequence[str]) -> str:
    """Return the sign that cuts the lines into equally many cells, most of them numbers.

    A comma where none does: the table has one column.
    """
    best, best_score = ",", (0.0, 0.0, 0)
    for sign in ("::", "\t", ";", "|", ",", " "):
        if not any(sign in line for line in lines):
            continue
        rows = split_lines(lines, sign)
        width = _most_cells(rows)
        if width < 2:
            continue
        if sign == "," and _are_decimal_commas(lines):
            continue
        even = sum(len(row) == width for row in rows) / len(rows)
        if even < _EVEN or (sign == " " and even < 1):
            continue
        # Numbers are what blanks or commas within texts do not make.
        cells = [cell.strip() for row in rows for cell in row if cell.strip()]
        numeric = sum(bool(_NUMBER.fullmatch(cell)) for cell in cells) / max(1, len(cells))
        if sign == " " and best_score[1] and numeric < _NUMERIC:
            continue  # the words of texts, which another sign sets apart
        score = (round(numeric, 1), round(even, 2), width if sign == " " else len(lines) + width)
        if score > best_score:
            best, best_score = sign, score
    return best


def _are_decimal_commas(lines: Sequence[str]) -> bool:
    """Whether semicolons cut every line alike, and commas stand within numbers only: 1,5;Bonn."""
    semicolons = {line.count(";") for line in lines}
    if len(semicolons) != 1 or 0 in semicolons:
        return False
    commas = sum(line.count(",") for line in lines)
    within = sum(len(re.findall(r"(?<=\d),(?=\d)", line)) for line in lines)
    return commas == within


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
    numeric = sum(bool(_NUMBER.fullmatch(cell)) for cell in present) / len(present)
    if numeric > _EVEN:
        is_number = bool(_NUMBER.fullmatch(name)) or name.lower() in MISSING_MARKS
        return -1 if is_number else 1
    if name in present:
        return -1
    # Where words repeat, one that does not is no such word.
    return 1 if len(present) >= _ENOUGH and len(set(present)) < len(present) / 2 else 0


def _looks_like_name(cell: str) -> bool:
    return bool(re.fullmatch(r"[^\W\d][\w .()/#%-]{0,40}", cell)) and not cell.endswith(".")


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
    frame, units = _without_units(frame, name)
    return frame, [*notices, *renamed, *units]


def _without_units(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[str]]:
    """Return a table without a second line of names, such as units: cm, kg."""
    if len(frame) < _ENOUGH:
        return frame, []
    first, rest = frame.iloc[0], frame.iloc[1 : LINES + 1]
    numeric = []
    for column in frame.columns:
        cells = [str(cell).strip() for cell in rest[column] if str(cell).strip()]
        present = [cell for cell in cells if cell.lower() not in MISSING_MARKS]
        if present and all(_NUMBER.fullmatch(cell) for cell in present):
            numeric.append(str(first[column]).strip())
    are_words = [bool(cell) and cell.lower() not in MISSING_MARKS for cell in numeric]
    if len(numeric) < 2 or not all(are_words) or any(map(_NUMBER.fullmatch, numeric)):
        return frame, []
    told = f"the second line of {name} left out: {some(map(repr, numeric))} are units or names"
    return frame.iloc[1:].reset_index(drop=True), [told]


def _without_empty_end(row: list[str]) -> list[str]:
    while row and not row[-1].strip():
        row = row[:-1]
    return row


def _with_whole_header(text: str, sign: str) -> str:
    """Return text whose first line has as many cells as the others.

    It lacks some where rows end with separators, or begin with a name that has no title.
    """
    header, *others = split_lines(first_lines(text), sign)
    width = _most_cells(others)
    lacks = width - len(header)
    if lacks < 1:
        return text
    line, _, rest = text.partition("\n")
    fits = sum(len(_without_empty_end(row)) <= len(header) for row in others)
    if fits >= _EVEN * len(others):
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
            io.StringIO(text),
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
