"""What separates the cells of a text table, told by its lines."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from danlu.errors import DataError, wrong
from danlu.host import csv_cells_of

SEPARATORS = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "bar": "|",
    "blanks": " ",
    "colons": "::",
}
TITLES = {sign: title for title, sign in SEPARATORS.items()}
LINES = 200  # by which the dialect is told
EVEN = 0.9  # of the lines: so many have as many cells as most
NUMBER = re.compile(r"[+-]?(\d[\d,.' ]*|\.\d+)([eE][+-]?\d+)?\s*%?")
COMMENTS = ("#", "%", "//", "|")
_NUMERIC = 0.5  # of the cells: so many are numbers where blanks set cells apart
Rows = list[list[str]]


def separator_of(text: str, name: str, given: str | None) -> tuple[str, list[str]]:
    """Return the sign that separates cells, as told or found, and what is to be said of it.

    Raises DataError for one that leaves a single column.
    """
    lines = first_lines(text)
    if given is None:
        sign = best_separator(lines)
        if sign == ",":
            return sign, []
        return sign, [f"{name} is separated by {TITLES[sign]}; --separator reads it otherwise"]
    sign = SEPARATORS.get(given.lower(), given.replace("\\t", "\t"))
    if len(sign) != 1 and sign not in SEPARATORS.values():
        known = ", ".join(SEPARATORS)
        raise DataError(wrong("separator", given, f"must be one sign, or {known}"))
    if all(len(row) < 2 for row in split_lines(lines, sign)):
        raise DataError(wrong("separator", given, f"leaves one column of {name}", "leave it out"))
    return sign, []


def first_lines(text: str) -> list[str]:
    """Return some lines that hold cells: neither blank nor a comment."""
    found = []
    for line in _lines(text):
        if line.strip() and not line.lstrip().startswith(COMMENTS):
            found.append(line)
        if len(found) == LINES:
            break
    # Where every line begins like a remark, none is one.
    return found or [line for line in text.split("\n", LINES)[:LINES] if line.strip()]


def _lines(text: str) -> Iterator[str]:
    """Yield lines one by one: a file may be large, and only its beginning is looked at."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end + 1


def split_lines(lines: Sequence[str], sign: str) -> Rows:
    """Return the cells of lines. A quoted cell may hold the sign, and line ends."""
    text, sign = with_one_sign("\n".join(lines), sign)
    with csv_cells_of(len(text) + 1):
        try:
            return [row for row in csv.reader(io.StringIO(text), delimiter=sign) if row]
        except csv.Error:
            return [line.split(sign) for line in lines]


def with_one_sign(text: str, sign: str) -> tuple[str, str]:
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


def most_cells(rows: Rows) -> int:
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
        width = most_cells(rows)
        if width < 2:
            continue
        if sign == "," and _are_decimal_commas(lines):
            continue
        even = sum(len(row) == width for row in rows) / len(rows)
        if even < EVEN or (sign == " " and even < 1):
            continue
        # Numbers are what blanks or commas within texts do not make.
        cells = [cell.strip() for row in rows for cell in row if cell.strip()]
        numeric = sum(bool(NUMBER.fullmatch(cell)) for cell in cells) / max(1, len(cells))
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
