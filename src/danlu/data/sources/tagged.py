"""Tagged text: a token and its tag on each line, an empty line between sentences (CoNLL, BMES, BIO).

Schemes of tags name parts of entities: B-, M- (or I-) and E- its beginning, middle and end, S- a whole of one token, O
none. Legend: N sentences, T tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from danlu.data.memmap import Array
from danlu.data.parts import in_order
from danlu.data.raw import Raw
from danlu.data.schema import Schema
from danlu.data.sources import text
from danlu.data.tags import (
    SCHEMES,
    closing_at_start,
    first_violation,
    follows_scheme,
    open_at_end,
    scheme_of,
)
from danlu.data.text import check_encodable, pad
from danlu.data.vocabulary import Vocabulary, learn
from danlu.errors import DataError, first, nearest, some, wrong

Sentence = tuple[int, list[str], list[str]]  # where it begins, tokens, tags
Place = Callable[[int, int], str]  # a sentence's beginning and the number of a token in words
SUFFIXES = (".bmes", ".bio", ".bioes", ".iob", ".iob2", ".conll", ".ner")
_NEARLY = 0.9  # of the tags that are not O: from so many on, the others are mistakes
_ABOUT = re.compile(
    r"#\s*\w+\s*=|#(begin|end) document"
)  # is about a sentence, whatever the other lines are like
_SIGNS = 0.8  # of the tokens: from so many single signs on, text is written without spaces between tokens


def _cells(line: str) -> list[str]:
    return (
        [c.strip(" ") for c in line.strip("\r").split("\t")]
        if "\t" in line
        else re.split(" +", line.strip(" \r"))
    )


def _is_remark(line: str) -> bool:
    """Whether a line may be about a sentence: whether it is depends on what the others are like."""
    return line.startswith("# ") or bool(_ABOUT.match(line))


def _columns(lines: Sequence[str]) -> tuple[int, bool]:
    """How many most lines have, and whether tabs part them."""
    others = [line for line in lines if line.strip() and not _is_remark(line)]
    told = Counter(len(_cells(line)) for line in others)
    return told.most_common(1)[0][0] if told else 0, 2 * sum("\t" in line for line in others) > len(
        others
    )


def parse(content: str, name: str) -> list[Sentence]:
    """(line of the first token, tokens, tags) of each sentence. All mistakes of a kind are refused at once."""
    sentences: list[Sentence] = []
    tokens: list[str] = []
    tags: list[str] = []
    mistakes = []
    lines = [*text.lines_of(content), ""]
    columns, tabs = _columns(lines)
    for k, line in enumerate(lines, 1):
        cells = _cells(line)
        other = tabs or len(cells) != columns or bool(_ABOUT.match(line))
        remark = _is_remark(line) and not tokens and "\t" not in line
        if cells[0] == "-DOCSTART-" or (remark and other):
            continue
        if not line.strip():
            if tokens:
                sentences.append((k - len(tokens), tokens, tags))
            tokens, tags = [], []
        elif len(cells) == 1 or not (cells[0] and cells[-1]):
            mistakes.append(
                f"line {k} of {name} is {line.strip()!r}, but needs a token and its tag"
            )
        elif " " in cells[0]:
            mistakes.append(
                f"line {k} of {name} has the token {cells[0]!r}, but a token holds no space; give each word a line"
            )
        else:
            tokens.append(cells[0])
            tags.append(cells[-1])
    if mistakes:
        raise DataError(*first(mistakes, "lines"))
    if sentences and all(
        tokens == [str(i + 1) for i in range(len(tokens))] for _, tokens, _ in sentences
    ):
        raise DataError(
            f"{name} begins its lines with numbers (CoNLL-U); keep the columns of the tokens and of the tags"
        )
    if not sentences:
        raise DataError(
            f"{name} holds no sentence; write a token and its tag on each line, and an empty line after a sentence"
        )
    return sentences


def iob1_to_iob2(sentences: Sequence[Sentence]) -> None:
    """IOB1 as BIO, in place: there, B- only parts an entity from one of its kind before it, and all others begin with I-."""
    pairs = [
        (before, tag)
        for _, _, tags in sentences
        for before, tag in pairwise(["O", *tags])
        if tag != "O"
    ]
    if any(tag[0] == "B" and before[2:] != tag[2:] for before, tag in pairs):
        return
    for _, _, tags in sentences:
        for i, (before, tag) in enumerate(pairwise(["O", *tags])):
            if tag[0] == "I" and before[2:] != tag[2:]:
                tags[i] = f"B{tag[1:]}"


def check(sentences: Sequence[Sentence], place: Place, scheme: str | None) -> None:
    """Refuse tags that are out of order, naming their places.

    An entity that goes on from the end of a sentence to the next is let pass (ResumeNER has two): sentences were cut by a rule.
    """
    mistakes = []
    for k, (at, _, tags) in enumerate(sentences):
        if scheme is None or not first_violation(tags, scheme):
            continue
        before, after = (sentences[j][2] if 0 <= j < len(sentences) else [] for j in (k - 1, k + 1))
        start = open_at_end(before, scheme) if tags[0][:1] not in SCHEMES[scheme].begins else []
        end = closing_at_start(after, scheme) if open_at_end(tags, scheme) else []
        if found := first_violation([*start, *tags, *end], scheme):
            mistakes.append(
                f"{place(at, found[0] - len(start))}: {found[1]} ({scheme.upper()}); correct that line"
            )
    if mistakes:
        raise DataError(*first(mistakes, "sentences"))


def files(folder: Path) -> dict[str, list[Path]]:
    """Tagged files of a folder by part."""
    return text.parts_of([p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES], folder.name)


def load(paths: dict[str, list[Path]], options: dict[str, Any]) -> Raw:
    """Tagged files by part, read in the order of parts."""
    order = in_order(paths)
    text.refuse_other_task("tagging", some(f.name for p in order for f in paths[p]), options)
    parsed = {
        f.name: parse(text.read(f, options.get("encoding")), f.name)
        for p in order
        for f in paths[p]
    }
    sizes = {p: sum(len(parsed[f.name]) for f in paths.get(p, [])) for p in ("valid", "test")}
    return _read(
        parsed,
        [f.name for f in paths[order[0]]],
        options,
        lambda name, at, i: f"line {at + i} of {name}",
        sizes,
    )


def from_lists(
    tokens: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]],
    options: dict[str, Any],
    valid: int = 0,
    test: int = 0,
) -> Raw:
    """The same of sentences that are in memory; the last `valid` and `test` of them are those parts."""
    if len(tokens) != len(tags) or any(
        len(a) != len(b) for a, b in zip(tokens, tags, strict=False)
    ):
        raise DataError(
            "the tokens and the tags differ in length; give every sentence a list of each, and every token its tag"
        )
    for what, of in (("token", tokens), ("tag", tags)):
        for k, row in enumerate(of, 1):
            bad = next((c for c in row if not isinstance(c, str) or c.split() != [c]), None)
            if bad is not None or not len(row):
                told = f"has the {what} {bad!r}" if bad is not None else f"has no {what}"
                raise DataError(
                    f"sentence {k} {told}, but needs {what}s of text without spaces; correct or remove it"
                )
            check_encodable("".join(row), f"sentence {k}")
    sentences = [
        (k, list(a), list(b)) for k, (a, b) in enumerate(zip(tokens, tags, strict=True), 1)
    ]
    return _read(
        {"data": sentences},
        ["data"],
        options,
        lambda _, at, i: f"token {i + 1} of sentence {at}",
        {"valid": valid, "test": test},
    )


def _read(
    parsed: dict[str, list[Sentence]],
    first_of: Sequence[str],
    options: dict[str, Any],
    place: Any,
    sizes: dict[str, int],
) -> Raw:
    """Sentences with a tag for each token: x [N, T] token numbers, y [N, T] tag numbers, −1 where there is no token.

    parsed: by file; first_of: the files that tell which tags there are; place: (file, sentence, token) in words.
    """

    def every_tag() -> list[str]:
        return [tag for name in first_of for _, _, tags in parsed[name] for tag in tags]

    like = options.get("like")
    scheme = like.scheme if like else scheme_of(every_tag(), _NEARLY)
    if scheme == "bio":
        iob1_to_iob2([s for of in parsed.values() for s in of])
    known = (
        list(like.classes)
        if like
        else sorted(
            {t for t in every_tag() if scheme is None or follows_scheme(t, scheme)}, key=_kind
        )
    )
    for name, sentences in parsed.items():
        strange = [
            (place(name, k, i), t)
            for k, _, tags in sentences
            for i, t in enumerate(tags)
            if t not in known
        ]
        if strange:
            _refuse_strange(strange, known, scheme)
        check(sentences, partial(place, name), scheme)
    if len(known) < 2:
        raise DataError(
            f"every token has the tag {known[0]!r}, so there is nothing to learn; tag what is to be found"
        )
    every = [(tokens, tags) for of in parsed.values() for _, tokens, tags in of]
    places = [
        f"the sentence at {place(name, k, 0)}" for name, of in parsed.items() for k, _, _ in of
    ]
    return tagged(every, tuple(known), options, places, sizes.get("valid", 0), sizes.get("test", 0))


def _kind(tag: str) -> tuple[bool, str, str]:
    """O first, then by the kind of entity."""
    return tag != "O", tag[2:] if tag[1:2] == "-" else tag, tag


def _refuse_strange(
    strange: Sequence[tuple[str, str]], known: Sequence[str], scheme: str | None
) -> None:
    """strange: places and tags."""
    where, tag = strange[0]
    near = nearest(tag, known)
    hint = f"did you mean {near!r}?" if near else f"known are {some(known, 8)}"
    fits = scheme is None or follows_scheme(tag, scheme)
    what = (
        f"no training sentence has the tag {tag!r}"
        if fits
        else f"{tag!r} is no tag of {str(scheme).upper()}"
    )
    more = f" ({len(strange) - 1} more such places)" if len(strange) > 1 else ""
    raise DataError(f"{where}: {what}{more}; {hint}")


def tagged(
    sentences: Sequence[tuple[Sequence[str], Sequence[str]]],
    classes: tuple[str, ...],
    options: dict[str, Any],
    places: Sequence[str],
    valid: int = 0,
    test: int = 0,
) -> Raw:
    """Sentences as (tokens, tags); the last `valid` and `test` of them are those parts."""
    text.refuse_other_task("tagging", "this text", options)
    index = {t: k for k, t in enumerate(classes)}
    text.refuse_long([range(len(tokens)) for tokens, _ in sentences], options, lambda i: places[i])

    def encode(train: Array) -> tuple[Array, Array, Schema]:
        own, like = [sentences[int(i)][0] for i in train], options.get("like")
        learnt = words(own, options)
        x = pad([learnt.numbers(tokens) for tokens, _ in sentences])
        y = pad([[index[t] for t in tags] for _, tags in sentences], -1)
        return (
            x,
            y,
            Schema(
                "tagging",
                x.shape[1:],
                classes,
                vocabulary=learnt.text,
                tokens=len(learnt),
                scheme=scheme_of(classes),
                spaced=like.spaced if like else spaced(own),
            ),
        )

    n = len(sentences)
    placeholder = Schema("tagging", (1,), classes)
    return Raw(
        np.zeros((n, 1), np.int32),
        np.zeros((n, 1), np.int32),
        placeholder,
        test,
        valid,
        encode=encode,
    )


def spaced(sentences: Sequence[Sequence[str]]) -> bool:
    """Whether tokens are written with spaces between them: not where nearly all are single signs, as in Chinese."""
    single = sum(len(t) == 1 for s in sentences for t in s)
    return single < _SIGNS * sum(map(len, sentences))


def words(sentences: Sequence[Sequence[str]], options: dict[str, Any]) -> Vocabulary:
    """The vocabulary of what is cut into tokens already: of characters where all are single ones."""
    single = all(len(t) == 1 for s in sentences for t in s)
    joined = ["".join(s) if single else " ".join(s) for s in sentences]
    kind = "words" if spaced(sentences) else "chars"
    if options.get("tokens") not in (None, kind):
        raise DataError(
            wrong(
                "tokens",
                options["tokens"],
                f"must be left out: this tagged text is cut into {kind} already",
            )
        )
    if like := options.get("like"):
        return Vocabulary(like.vocabulary)
    return learn(
        joined, "chars" if single else "words", options.get("vocabulary"), spaces_only=True
    )
