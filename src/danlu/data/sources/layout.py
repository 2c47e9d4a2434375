"""What a text file is, told by its lines: running text, a table, or tokens with their tags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from danlu.data.reading_memory import check_json_fits
from danlu.data.sources import separators
from danlu.data.sources.formats import DELIMITED
from danlu.data.sources.tagged_lines import is_universal
from danlu.files import parse_json

Layout = Literal["running", "table", "tagged"]

_LOOKED_AT = 1 << 16  # characters of the first line that JSON is told by
_LINES = 2000  # by which the layout is told
_EVEN = 0.95  # of the lines: so many have as many cells as most
_NUMERIC = 0.5  # of the cells: so many are numbers where commas or blanks set cells apart
_NUMBER = re.compile(r"[+-]?[\d.,]+([eE][+-]?\d+)?")
_MOST_TAGS = 200
_LONGEST = 120  # tokens of a sentence, on average
_SHORT = 30  # characters of a cell that is no prose
# O, B-PER, NNP, PRP$, and signs, which some schemes tag by themselves.
_TAG = re.compile(r"[A-Z][A-Z0-9]*\$?([-_|.:][\w|.:-]+)?|[^\w\s]+|_")


def layout_of(text: str, suffix: str, options: Mapping[str, Any]) -> Layout:
    """Return what the lines of a file are, unless an option says so."""
    task = options.get("task")
    like = options.get("like")
    if task == "tags" or (like is not None and like.task == "tagging"):
        return "tagged"
    of_running_text = task == "language" or (options.get("lines") and suffix not in DELIMITED)
    if of_running_text or (like is not None and like.task == "language"):
        return "running"
    says_table = task or options.get("target") or options.get("separator") or options.get("text")
    if says_table or (like is not None and not like.is_text):
        return "table"
    lines = text.replace("\r\n", "\n").split("\n", _LINES)[:_LINES]
    if are_tagged(lines) or is_universal(lines):
        return "tagged"
    if suffix in DELIMITED or are_rows(lines):
        return "table"
    return "running"


def is_json(text: str, name: str) -> bool:
    """Whether a text is JSON: an object on each line, or a list of them."""
    start = text.lstrip()[:_LOOKED_AT]
    if start.startswith("["):
        return start[1:].lstrip().startswith("{")
    if not start.startswith("{"):
        return False
    line = start.split("\n", 1)[0]
    # One object on a line, or one over all of them.
    if _is_object(line):
        return True
    check_json_fits(text, name)
    return _is_object(text)


def _is_object(text: str) -> bool:
    try:
        return isinstance(parse_json(text), dict)
    except ValueError:
        return False


def are_tagged(lines: Sequence[str]) -> bool:
    """Whether lines are tokens with a tag each, an empty line between sentences."""
    filled = [line for line in lines if line.strip() and not line.startswith("#")]
    blank = sum(not line.strip() for line in lines[:-1])
    if len(filled) < 2 or blank < 1 or len(filled) > _LONGEST * (blank + 1):
        return False
    by_tab = [line.split("\t") for line in filled]
    by_blanks = [line.split() for line in filled]
    return _have_tags(by_tab) or _have_tags(by_blanks)


def _have_tags(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the last cells are tags: fewer than there are tokens, and written like tags."""
    width, n = _width(rows)
    if width < 2 or n < _EVEN * len(rows):
        return False
    even = [row for row in rows if len(row) == width]
    tokens = {row[0].strip() for row in even}
    if any(" " in token for token in tokens):
        return False
    tags = Counter(row[-1].strip() for row in even)
    if len(tags) > min(_MOST_TAGS, len(tokens) / 2):
        return False
    like_tags = sum(number for tag, number in tags.items() if _TAG.fullmatch(tag))
    return like_tags >= _EVEN * n


def _width(cells: Sequence[Sequence[str]]) -> tuple[int, int]:
    """Return how many cells most rows have, and how many rows have so many."""
    return Counter(map(len, cells)).most_common(1)[0]


def are_rows(lines: Sequence[str]) -> bool:
    """Whether lines are rows of a table: each with as many cells, more than blanks can make."""
    filled = [line for line in lines if line.strip()]
    if len(filled) < 2:
        return False
    sign = separators.best_separator(filled[: separators.LINES])
    cells = separators.split_lines(filled, sign)
    width, rows = _width(cells)
    if width < 2 or rows < _EVEN * len(cells):
        return False
    if sign in ("\t", "::"):
        return True
    flat = [cell.strip() for row in cells for cell in row]
    if sign in (";", "|"):
        return sum(len(cell) <= _SHORT for cell in flat) > _EVEN * len(flat)
    # Commas and blanks are in prose, too, so numbers must speak for a table.
    numeric = sum(bool(_NUMBER.fullmatch(cell)) for cell in flat)
    return numeric > _NUMERIC * len(flat)
