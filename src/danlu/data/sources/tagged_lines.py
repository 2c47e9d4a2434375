"""Lines of tagged text: a token and its tag on each, an empty line between sentences.

Further columns may stand between the two (CoNLL); CoNLL-U numbers its tokens, and its fourth column
is the part of speech.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from danlu.data.reading_memory import check_lines_fit
from danlu.data.sources import text
from danlu.errors import DataError, first

# Is about a sentence, whatever the other lines are like.
_ABOUT = re.compile(r"#\s*\w+\s*=|#(begin|end) document|# newdoc|# newpar")
_TITLES_OF_TOKENS = {"token", "word", "words", "tokens", "form", "char"}
_TITLES_OF_TAGS = {"tag", "tags", "label", "labels", "ner", "ner_tag", "pos"}
_UNIVERSAL_COLUMNS = 10
_FORM, _UPOS = 1, 3


class Sentence(NamedTuple):
    """Tokens with their tags; start: the line (or number) of the first."""

    start: int
    tokens: list[str]
    tags: list[str]


def parse(content: str, name: str) -> list[Sentence]:
    """Return the sentences of a file. Mistakes of all lines are refused at once."""
    check_lines_fit(content, name)
    lines = [*text.lines_of(content), ""]
    if is_universal(lines):
        return _parse_universal(lines, name)
    sentences = _parse_lines(lines, name, 0)
    numbered = [[str(k + 1) for k in range(len(s.tokens))] for s in sentences]
    if numbered != [sentence.tokens for sentence in sentences]:
        return sentences
    # The first column counts the tokens, which are in the second.
    if min(len(_cells(line)) for line in lines if line.strip() and not line.startswith("#")) < 3:
        raise DataError(f"{name} begins its lines with numbers, but has no column for the tokens")
    return _parse_lines(lines, name, 1)


def _parse_lines(lines: Sequence[str], name: str, form: int) -> list[Sentence]:
    """Return the sentences of lines whose tokens are in that column."""
    sentences: list[Sentence] = []
    tokens: list[str] = []
    tags: list[str] = []
    mistakes = []
    columns, has_tabs = _columns(lines)
    for number, line in enumerate(lines, 1):
        cells = _cells(line)
        if cells[0] == "-DOCSTART-" or _is_remark(line, bool(tokens), columns, has_tabs):
            continue
        if number == 1 and _are_titles(cells):
            continue
        if not line.strip():
            if tokens:
                sentences.append(Sentence(number - len(tokens), tokens, tags))
            tokens, tags = [], []
            continue
        mistake = _mistake_of(line, cells, number, name)
        if mistake:
            mistakes.append(mistake)
        else:
            tokens.append(cells[form])
            tags.append(cells[-1])
    if mistakes:
        raise DataError(*first(mistakes, "lines"))
    if not sentences:
        raise DataError(
            f"{name} holds no sentence; write a token and its tag on each line, and an empty line "
            "after a sentence"
        )
    return sentences


def _cells(line: str) -> list[str]:
    if "\t" in line:
        return [cell.strip(" ") for cell in line.strip("\r").split("\t")]
    return re.split(" +", line.strip(" \r"))


def _columns(lines: Sequence[str]) -> tuple[int, bool]:
    """Return how many cells most lines have, and whether tabs separate them."""
    others = [line for line in lines if line.strip() and not _may_be_remark(line)]
    counts = Counter(len(_cells(line)) for line in others)
    with_tab = sum("\t" in line for line in others)
    columns = counts.most_common(1)[0][0] if counts else 0
    return columns, 2 * with_tab > len(others)


def _may_be_remark(line: str) -> bool:
    return line.startswith("# ") or bool(_ABOUT.match(line))


def _is_remark(line: str, within_sentence: bool, columns: int, has_tabs: bool) -> bool:
    """Whether a line is about a sentence: that depends on what the others are like."""
    if not _may_be_remark(line) or within_sentence or "\t" in line:
        return False
    return has_tabs or len(_cells(line)) != columns or bool(_ABOUT.match(line))


def _are_titles(cells: Sequence[str]) -> bool:
    return cells[0].lower() in _TITLES_OF_TOKENS and cells[-1].lower() in _TITLES_OF_TAGS


def _mistake_of(line: str, cells: Sequence[str], number: int, name: str) -> str | None:
    if len(cells) == 1 or not (cells[0] and cells[-1]):
        return f"line {number} of {name} is {line.strip()!r}, but needs a token and its tag"
    if " " in cells[0]:
        return (
            f"line {number} of {name} has the token {cells[0]!r}, but a token holds no space; give "
            "each word a line"
        )
    return None


def is_universal(lines: Sequence[str]) -> bool:
    """Whether lines are CoNLL-U: ten columns, the first of them a token's number."""
    rows = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    if not rows:
        return False
    return all(len(row) == _UNIVERSAL_COLUMNS and row[0][:1].isdigit() for row in rows)


def _parse_universal(lines: Sequence[str], name: str) -> list[Sentence]:
    sentences: list[Sentence] = []
    tokens: list[str] = []
    tags: list[str] = []
    start = 0
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            if tokens:
                sentences.append(Sentence(start, tokens, tags))
            tokens, tags = [], []
            continue
        cells = line.split("\t")
        # 3-4 is what its parts are written as together, 3.1 a token that is not written.
        if not cells[0].isdigit():
            continue
        if not tokens:
            start = number
        tokens.append(cells[_FORM].replace(" ", "_"))
        tags.append(cells[_UPOS])
    if all(tag == "_" for sentence in sentences for tag in sentence.tags):
        raise DataError(f"{name} has no part of speech in its fourth column (UPOS)")
    return sentences
