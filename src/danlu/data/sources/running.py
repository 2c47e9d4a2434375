"""Running text for language models: each token is predicted from those before it.

Legend: N windows, T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from danlu.data import split
from danlu.data.memmap import Array
from danlu.data.parts import PARTS
from danlu.data.raw import Raw
from danlu.data.reading_memory import check_lines_fit, check_texts_fit
from danlu.data.schema import Schema
from danlu.data.sources.options import Options, refuse_unused
from danlu.data.sources.text import RUNNING, cut, lines_of, refuse_other_task, vocabulary
from danlu.data.text import check_encodable, pad
from danlu.data.vocabulary import EOS, PAD, Vocabulary
from danlu.errors import DataError

WINDOW = 128  # tokens of running text in an example, unless told
_SHARES = (0.8, 0.1, 0.1)
_UNEVEN = 0.05  # how far from its share a part may be, so that no line is cut

Texts = dict[str, list[str]]  # documents by part
Rows = list[Array]


def refuse_for_running_text(options: Options) -> None:
    """Raise DataError for options that do nothing for running text."""
    given = dict(options)
    if given.get("task") == "language":
        given["task"] = None
    refuse_unused(given, RUNNING, "running text")


def language_model_text(texts: Texts, name: str, options: Options, shares: Any = None) -> Raw:
    """Return running text as windows of tokens, in order.

    texts: documents by part ("all", or train, valid and test). x [N, T] and y [N, T], the tokens
    one further on. With `lines`, every line is a text of its own, from `<eos>` to `<eos>`. shares:
    of "all" that each part gets.
    """
    for documents in texts.values():
        check_texts_fit(documents, name)
        for document in documents:
            check_lines_fit(document, name)
    _check(texts, name)
    refuse_other_task("language", name, options)
    like = options.get("like")
    are_lines = bool(like.lines if like else options.get("lines"))
    texts = _by_part(texts, like is not None, shares, are_lines)
    if are_lines:
        texts = {part: _lines(documents) for part, documents in texts.items()}
        if not texts.get("train") and not like:
            raise DataError(f"{name} has no line with text in its training part")
    training_lines = [line for text in texts.get("train", []) for line in text.splitlines(True)]
    learnt = vocabulary(training_lines, options)
    by_part = []
    notices: list[str] = []
    n_documents = sum(map(len, texts.values()))
    has_ends = n_documents > len(texts)  # of documents, where there are several
    for part in PARTS:
        rows, told = _windows(texts.get(part, []), learnt, options, has_ends, are_lines)
        by_part.append(rows)
        notices += told
    if not by_part[0] and not (like and by_part[2]):
        raise DataError(f"{name} is too short: its training part must hold at least 2 tokens")
    every = [row for rows in by_part for row in rows]
    width = max(map(len, every)) - 1
    x = pad([row[:-1] for row in every], PAD, width)
    y = pad([row[1:] for row in every], -1, width)
    schema = Schema(
        "language", (width,), vocabulary=learnt.text, tokens=len(learnt), lines=are_lines
    )
    _, valid, test = by_part
    return Raw(
        x,
        y,
        schema,
        official_test=len(test),
        official_valid=len(valid),
        presplit=True,
        notices=tuple(notices),
    )


def _check(texts: Texts, name: str) -> None:
    documents = [document for of_part in texts.values() for document in of_part]
    if not any(document.strip() for document in documents):
        raise DataError(f"{name} holds no text")
    for document in documents:
        check_encodable(document, name)


def _by_part(texts: Texts, is_read_for_run: bool, shares: Any, are_lines: bool) -> Texts:
    if is_read_for_run:
        return {"test": [document for of_part in texts.values() for document in of_part]}
    if set(texts) in ({"train"}, {"all"}):
        (documents,) = texts.values()
        return _parted(documents, shares, are_lines)
    return texts


def _lines(documents: Sequence[str]) -> list[str]:
    return [line for document in documents for line in lines_of(document) if line.strip()]


def _parted(documents: list[str], shares: Any, are_lines: bool) -> Texts:
    """Return the beginning for training, then validation and test.

    Cut between documents; where that misses a share, at line ends; and where lines are as long,
    anywhere. are_lines: lines are texts of their own, and none is ever cut.
    """
    parts = np.array(split.parse(shares) if shares is not None else _SHARES)
    whole = "".join(documents)
    ends = np.cumsum([0, *map(len, documents)])
    cuts = _cuts(ends, parts)
    if _misses(cuts, parts) > _UNEVEN:
        of_lines = np.array([match.end() for match in re.finditer("\n", whole)], np.int64)
        cuts = _cuts(np.union1d(ends, of_lines), parts)
    if _misses(cuts, parts) > _UNEVEN and not are_lines:
        cuts = np.round(np.cumsum([0, *parts]) * len(whole)).astype(np.int64)
    found: Texts = {}
    for part, (start, end) in zip(PARTS, pairwise(cuts.tolist()), strict=True):
        own = _documents_between(whole, ends, start, end)
        if own:
            found[part] = own
    return found


def _documents_between(whole: str, ends: Array, start: int, end: int) -> list[str]:
    """Return the documents, or pieces of them, from one place of the text to another."""
    found = []
    for first, last in pairwise(ends.tolist()):
        piece_start = max(start, first)
        piece_end = min(end, last)
        if piece_start < piece_end:
            found.append(whole[piece_start:piece_end])
    return found


def _cuts(places: Array, parts: Array) -> Array:
    """Return beginning, two cuts and end, each at the nearest place with some for each part."""
    cuts = [0]
    parts_left = int((parts > 0).sum())
    last = len(places) - 1
    wanted_ends = np.cumsum(parts) * places[-1]
    for share, wanted in zip(parts[:-1], wanted_ends, strict=False):
        takes_some = share > 0
        parts_left -= takes_some
        least = min(cuts[-1] + takes_some, last)
        most = max(least, last - parts_left)
        near = places[least : most + 1]
        aim = wanted if takes_some else places[cuts[-1]]
        cuts.append(least + int(np.abs(near - aim).argmin()))
    return places[[*cuts, last]]


def _misses(cuts: Array, parts: Array) -> float:
    """Return how far the part that is farthest off its share is."""
    shares = np.diff(cuts) / max(1, cuts[-1])
    return float(np.abs(shares - parts).max())


def _windows(
    texts: Sequence[str], learnt: Vocabulary, options: Options, has_ends: bool, are_lines: bool
) -> tuple[Rows, tuple[str, ...]]:
    """Return rows of at most `length` + 1 tokens, each from the last token of the one before on.

    are_lines: each text is a row of its own.
    """
    if are_lines:
        places = [f"{text[:30]!r}" for text in texts]
        # The ends of a text are no tokens of its own.
        rows, told = cut(learnt.encode_all(texts), options, places)
        end = np.array([EOS], np.int32)
        return [np.concatenate([end, row, end]) for row in rows], told
    like = options.get("like")
    step = options.get("length") or (like.input_shape[0] if like else WINDOW)
    end = np.array([EOS], np.int32)
    pieces = [end]
    for text in texts:
        pieces += learnt.encode_all(text.splitlines(True))
        if has_ends:
            pieces.append(end)
    stream = np.concatenate(pieces)
    starts = range(0, len(stream) - 1, step)
    return [stream[start : start + step + 1] for start in starts], ()
