"""Tagged text: tokens with a tag each, from files of lines, from tables, from lists.

Schemes of tags name parts of entities: B-, M- (or I-) and E- its beginning, middle and end, S- a
whole of one token, O none. Legend: N sentences, T tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.memmap import Array
from danlu.data.parts import in_order
from danlu.data.raw import Encoded, Raw
from danlu.data.schema import Schema
from danlu.data.sources import text
from danlu.data.sources.options import Options
from danlu.data.sources.tagged_lines import Sentence, parse
from danlu.data.tags import (
    SCHEMES,
    closing_at_start,
    first_violation,
    follows_scheme,
    open_at_end,
    repaired,
    scheme_of,
)
from danlu.data.text import check_encodable, pad
from danlu.data.vocabulary import Vocabulary, learn
from danlu.errors import DataError, count, first, nearest, some, wrong

if TYPE_CHECKING:
    import pandas as pd

Parsed = dict[str, list[Sentence]]  # sentences by file
Place = Callable[[str, int, int], str]  # (file, a sentence's start, number of the token) in words
SUFFIXES = (".bmes", ".bio", ".bioes", ".iob", ".iob2", ".conll", ".ner", ".conllu", ".conllx")
_NEARLY = 0.9  # of the tags that are not O: from so many on, the others are mistakes
_SIGNS = 0.8  # of the tokens: from so many single signs on, no spaces are written between them


def load(paths: Mapping[str, list[Path]], options: Options) -> Raw:
    """Return tagged files by part, read in the order of parts."""
    in_turn = [file for part in in_order(paths) for file in paths[part]]
    parsed = {}
    for file in in_turn:
        content = text.read(file, options.get("encoding"))
        parsed[file.name] = parse(content, file.name)
    sizes = {}
    for part in ("valid", "test"):
        sizes[part] = sum(len(parsed[file.name]) for file in paths.get(part, []))
    first_part = [file.name for file in paths[in_order(paths)[0]]]
    return from_sentences(parsed, first_part, options, line, sizes)


def line(name: str, start: int, place: int) -> str:
    """Return where a token of a file is."""
    return f"line {start + place} of {name}"


def from_lists(
    tokens: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]],
    options: Options,
    valid: int = 0,
    test: int = 0,
) -> Raw:
    """Return sentences that are in memory; the last `valid` and `test` of them are those parts."""
    lengths = [len(row) for row in tokens]
    if lengths != [len(row) for row in tags]:
        raise DataError(
            "the tokens and the tags differ in length; give every sentence a list of each, and "
            "every token its tag"
        )
    for what, rows in (("token", tokens), ("tag", tags)):
        for number, row in enumerate(rows, 1):
            _check_row(row, what, number)
    sentences = []
    for number, (own_tokens, own_tags) in enumerate(zip(tokens, tags, strict=True), 1):
        sentences.append(Sentence(number, list(own_tokens), list(own_tags)))
    sizes = {"valid": valid, "test": test}
    return from_sentences({"data": sentences}, ["data"], options, token, sizes)


def token(name: str, start: int, place: int) -> str:
    """Return where a token of a list is."""
    return f"token {place + 1} of sentence {start}"


def _check_row(row: Sequence[Any], what: str, number: int) -> None:
    found = None
    if not len(row):
        found = f"has no {what}"
    for cell in row:
        if not isinstance(cell, str) or cell.split() != [cell]:
            found = f"has the {what} {cell!r}"
            break
    if found:
        raise DataError(
            f"sentence {number} {found}, but needs {what}s of text without spaces; correct or "
            "remove it"
        )
    check_encodable("".join(row), f"sentence {number}")


_OF_SENTENCES = ("sentence #", "sentence_id", "sentence id", "sent_id", "sentence")
_OF_TOKENS = ("word", "token", "words", "tokens")
_OF_TAGS = ("tag", "ner_tag", "ner", "label", "pos")


def columns_of_tokens(known: Sequence[str]) -> tuple[str, str, str] | None:
    """Return the columns of sentences, tokens and tags of a table; None where it has none."""
    by_lower = {str(column).lower(): str(column) for column in known}
    found = []
    for titles in (_OF_SENTENCES, _OF_TOKENS, _OF_TAGS):
        title = next((by_lower[title] for title in titles if title in by_lower), None)
        if title is None:
            return None
        found.append(title)
    sentence, token, tag = found
    return sentence, token, tag


def from_table(
    frame: pd.DataFrame, columns: tuple[str, str, str], name: str, options: Options
) -> Raw:
    """Return sentences of a table with a token in each row; the sentence's cell may be empty."""
    of_sentence, of_token, of_tag = columns
    marks = frame[of_sentence].astype("string").str.strip().replace("", None)
    is_new = (marks.notna() & (marks != marks.ffill().shift()).fillna(True)).to_numpy(bool)
    numbers = np.cumsum(is_new)
    tokens = frame[of_token].astype("string").fillna("").str.strip().to_numpy(object)
    tags = frame[of_tag].astype("string").fillna("").str.strip().to_numpy(object)
    is_whole = (tokens != "") & (tags != "")
    rows = np.flatnonzero(is_whole)
    starts = np.flatnonzero(np.diff(numbers[rows], prepend=-1))
    sentences = []
    for start, end in pairwise([*starts.tolist(), len(rows)]):
        within = rows[start:end]
        words = [str(word).replace(" ", "_") for word in tokens[within]]
        sentences.append(Sentence(int(within[0]) + 1, words, [str(t) for t in tags[within]]))
    raw = from_sentences({name: sentences}, [name], options, _row, {})
    told = [f"tokens are read from {of_token}, tags from {of_tag}, sentences by {of_sentence}"]
    left = int((~is_whole).sum())
    if left:
        told.append(f"{count(left, 'row')} without a token or a tag left out")
    return replace(raw, notices=(*told, *raw.notices))


def _row(name: str, start: int, token: int) -> str:
    return f"row {start + token} of {name}"


def from_sentences(
    parsed: Parsed,
    first_part: Sequence[str],
    options: Options,
    place: Place,
    sizes: Mapping[str, int],
) -> Raw:
    """Return sentences with a tag for each token.

    x [N, T] token numbers, y [N, T] tag numbers, −1 where there is no token. first_part: the files
    that tell which tags there are.
    """
    text.refuse_other_task("tagging", some(parsed), options)
    like = options.get("like")
    own_tags = _tags_of(parsed, first_part)
    scheme = like.scheme if like else scheme_of(own_tags, _NEARLY)
    if scheme == "bio":
        iob1_to_iob2([sentence for of_file in parsed.values() for sentence in of_file])
    own_tags = _tags_of(parsed, first_part)
    known = _known_tags(own_tags, scheme, like)
    strict = options.get("tags") == "strict"
    mended = 0
    for name, sentences in parsed.items():
        _refuse_strange(name, sentences, known, scheme, place)
        mended += _put_in_order(sentences, partial(place, name), scheme, strict)
    # A mended tag may be one that was not there.
    known = _known_tags(_tags_of(parsed, first_part), scheme, like)
    if len(known) < 2:
        raise DataError(
            f"every token has the tag {known[0]!r}, so there is nothing to learn; tag what is to "
            "be found"
        )
    raw = _encoded(parsed, tuple(known), options, place, sizes)
    if not mended:
        return raw
    notice = (
        f"{count(mended, 'tag')} out of order ({str(scheme).upper()}), read as the evaluation "
        "script conlleval reads them; --tags strict refuses them"
    )
    return replace(raw, notices=(notice, *raw.notices))


def _tags_of(parsed: Parsed, names: Sequence[str]) -> list[str]:
    return [tag for name in names for sentence in parsed[name] for tag in sentence.tags]


def _known_tags(tags: Sequence[str], scheme: str | None, like: Schema | None) -> list[str]:
    if like:
        return list(like.classes)
    following = {tag for tag in tags if scheme is None or follows_scheme(tag, scheme)}
    return sorted(following, key=_order)


def _order(tag: str) -> tuple[bool, str, str]:
    """Sort O first, then by the kind of entity."""
    kind = tag[2:] if tag[1:2] == "-" else tag
    return tag != "O", kind, tag


def iob1_to_iob2(sentences: Sequence[Sentence]) -> None:
    """Turn IOB1 into BIO in place.

    In IOB1 B- only separates an entity from one of its kind before it; all others begin with I-.
    """
    begun_by = Counter(
        tag[0]
        for sentence in sentences
        for before, tag in pairwise(["O", *sentence.tags])
        if tag != "O" and before[2:] != tag[2:]
    )
    if begun_by["B"] >= begun_by["I"]:
        return
    for sentence in sentences:
        for i, (before, tag) in enumerate(pairwise(["O", *sentence.tags])):
            if tag[0] == "I" and before[2:] != tag[2:]:
                sentence.tags[i] = f"B{tag[1:]}"


def _put_in_order(
    sentences: Sequence[Sentence],
    place: Callable[[int, int], str],
    scheme: str | None,
    strict: bool,
) -> int:
    """Mend tags that are out of order, and return how many were; strict: refuse them instead.

    An entity that goes on from the end of a sentence to the next is let pass (ResumeNER has two):
    sentences were cut by a rule.
    """
    if scheme is None:
        return 0
    mistakes = []
    mended = 0
    in_order = [not first_violation(sentence.tags, scheme) for sentence in sentences]
    originals = [list(sentence.tags) for sentence in sentences]
    for k, sentence in enumerate(sentences):
        if in_order[k]:
            continue
        before = originals[k - 1] if k > 0 else []
        after = originals[k + 1] if k + 1 < len(sentences) else []
        start = []
        if sentence.tags[0][:1] not in SCHEMES[scheme].begins:
            start = open_at_end(before, scheme)
        end = []
        if open_at_end(sentence.tags, scheme):
            end = closing_at_start(after, scheme)
        found = first_violation([*start, *sentence.tags, *end], scheme)
        if not found:
            continue
        at, why = found
        mistakes.append(
            f"{place(sentence.start, at - len(start))}: {why} ({scheme.upper()}); correct that line"
        )
        better = repaired(sentence.tags, scheme)
        mended += sum(a != b for a, b in zip(sentence.tags, better, strict=True))
        sentence.tags[:] = better
    if mistakes and strict:
        raise DataError(*first(mistakes, "sentences"))
    return mended


def _refuse_strange(
    name: str,
    sentences: Sequence[Sentence],
    known: Sequence[str],
    scheme: str | None,
    place: Place,
) -> None:
    """Raise DataError for tags that training does not know."""
    strange = []
    allowed = set(known)
    for sentence in sentences:
        for i, tag in enumerate(sentence.tags):
            # A tag that only a mended one leads to has a known kind.
            if tag not in allowed:
                strange.append((place(name, sentence.start, i), tag))
    if not strange:
        return
    where, tag = strange[0]
    near = nearest(tag, known)
    hint = f"did you mean {near!r}?" if near else f"known are {some(known, 8)}"
    what = f"{tag!r} is no tag of {str(scheme).upper()}"
    if scheme is None or follows_scheme(tag, scheme):
        what = f"no training sentence has the tag {tag!r}"
    more = f" ({len(strange) - 1} more such places)" if len(strange) > 1 else ""
    raise DataError(f"{where}: {what}{more}; {hint}")


def _encoded(
    parsed: Parsed,
    classes: tuple[str, ...],
    options: Options,
    place: Place,
    sizes: Mapping[str, int],
) -> Raw:
    index = {tag: k for k, tag in enumerate(classes)}
    tokens: list[list[str]] = []
    tags: list[list[str]] = []
    places = []
    for name, sentences in parsed.items():
        for sentence in sentences:
            tokens.append(sentence.tokens)
            tags.append(sentence.tags)
            places.append(f"the sentence at {place(name, sentence.start, 0)}")
    tokens, cut = text.cut(tokens, options, places)
    tags, _ = text.cut(tags, options, places)
    like = options.get("like")

    def encode(train: Array) -> Encoded:
        own = [tokens[int(i)] for i in train]
        learnt = _vocabulary(own, options)
        x = pad([learnt.numbers(sentence) for sentence in tokens])
        y = pad([[index.get(tag, -1) for tag in sentence] for sentence in tags], -1)
        schema = Schema(
            "tagging",
            x.shape[1:],
            classes,
            vocabulary=learnt.text,
            tokens=len(learnt),
            scheme=scheme_of(classes),
            spaced=like.spaced if like else spaced(own),
        )
        return Encoded(x, y, schema)

    nothing = np.zeros((len(tokens), 1), np.int32)
    return Raw(
        nothing,
        nothing,
        Schema("tagging", (1,), classes),
        sizes.get("test", 0),
        sizes.get("valid", 0),
        encode=encode,
        notices=cut,
    )


def spaced(sentences: Sequence[Sequence[str]]) -> bool:
    """Whether tokens are written with spaces between them.

    Not where nearly all are single signs, as in Chinese.
    """
    single = 0
    tokens = 0
    for sentence in sentences:
        tokens += len(sentence)
        single += sum(len(token) == 1 for token in sentence)
    return single < _SIGNS * tokens


def _vocabulary(sentences: Sequence[Sequence[str]], options: Options) -> Vocabulary:
    """Return the vocabulary of tokens: of characters where all are single ones."""
    are_single = all(len(token) == 1 for sentence in sentences for token in sentence)
    kind = "words" if spaced(sentences) else "chars"
    if options.get("tokens") not in (None, kind):
        rule = f"must be left out: this tagged text is cut into {kind} already"
        raise DataError(wrong("tokens", options["tokens"], rule))
    like = options.get("like")
    if like:
        return Vocabulary(like.vocabulary)
    size = options.get("vocabulary")
    if are_single:
        return learn(["".join(s) for s in sentences], "chars", size, spaces_only=True)
    return learn([" ".join(s) for s in sentences], "words", size, spaces_only=True)
