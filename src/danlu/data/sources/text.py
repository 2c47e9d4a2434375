"""Labelled texts and pairs of texts, and what all sources of text share.

Examples become rows of token numbers, filled up with `<pad>`; the vocabulary is learnt from the
training part alone. Legend: N examples, T tokens; S of a source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from danlu.data.memmap import Array
from danlu.data.parts import part_of_file
from danlu.data.raw import Encoded, Raw
from danlu.data.reading_memory import check_texts_fit
from danlu.data.schema import Schema
from danlu.data.sources.opened import decode, open_text
from danlu.data.sources.options import Options
from danlu.data.tables.target import number_classes, unseen_words
from danlu.data.text import check_encodable, pad
from danlu.data.vocabulary import EOS, UNK, Vocabulary, learn
from danlu.errors import DataError, count, some

_Row = TypeVar("_Row", list[Any], Array)
LONGEST = 1024  # tokens of an example, unless told

OPTIONS = ("tokens", "vocabulary", "length", "encoding", "missing")  # of `load`, for every text
RUNNING = (*OPTIONS, "lines")


def read(path: Path, encoding: str | None = None) -> str:
    """Return the text of a file. Raises DataError, naming the first byte that is none."""
    return open_text(path, encoding).text


def decoded(content: bytes, name: str, encoding: str | None = None) -> str:
    """Return bytes as text."""
    return decode(content, name, encoding)[0]


def lines_of(content: str) -> list[str]:
    """Return what line feeds set apart: other signs that Python breaks lines at are text."""
    return content.replace("\r\n", "\n").split("\n")


def vocabulary(texts: Sequence[str], options: Options) -> Vocabulary:
    """Return the vocabulary of these texts, or that of the trained run that is to read them."""
    like = options.get("like")
    if like:
        return Vocabulary(like.vocabulary)
    return learn(texts, options.get("tokens") or "chars", options.get("vocabulary"))


def refuse_other_task(task: str, name: str, options: Options) -> None:
    """Raise DataError where a trained run of another task is to read this."""
    like = options.get("like")
    if like and like.task != task:
        raise DataError(
            f"the run was trained for {like.task} of text, but {name} is for {task}; give it a "
            "source of its kind"
        )


def cut(
    rows: Sequence[_Row], options: Options, places: Sequence[str]
) -> tuple[list[_Row], tuple[str, ...]]:
    """Return rows of at most as many tokens as the limit, and what was cut, in words.

    places: how each is named.
    """
    like = options.get("like")
    trained_on = 0 if like is None else like.source or like.input_shape[0]
    most = options.get("length") or max(LONGEST, trained_on)
    long = [i for i, row in enumerate(rows) if len(row) > most]
    if not long:
        return list(rows), ()
    longest = max(len(rows[i]) for i in long)
    hint = "" if like is not None else f", and --length {longest} cuts none"
    notice = (
        f"{count(len(long), 'text')} cut after {most:,} tokens, the first {places[long[0]]}; the "
        f"longest has {longest:,}{hint}"
    )
    return [row[:most] for row in rows], (notice,)


def parts_of(files: Sequence[Path], folder: str) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Return files by the part that their names say, "all" where none does, and what is left out.

    Files beside those of the training part are of another kind, such as a list of the classes.
    Raises DataError where parts are named, but none is for training.
    """
    found: dict[str, list[Path]] = {}
    for file in sorted(files):
        found.setdefault(part_of_file(file.name) or "all", []).append(file)
    if set(found) <= {"all"}:
        return found, ()
    if "train" not in found:
        listed = some(file.name for of_part in found.values() for file in of_part)
        raise DataError(f"{folder} has {listed}, but no file for training; name it train…")
    left = found.pop("all", [])
    # One kind of file, such as train.tsv and dev.tsv: a second copy would count twice.
    suffix = found["train"][0].suffix
    for part, of_part in found.items():
        alike = [file for file in of_part if file.suffix == suffix]
        if alike:
            left += [file for file in of_part if file not in alike]
            found[part] = alike
    if not left:
        return found, ()
    names = some(file.name for file in left)
    return found, (f"left out: {names} of {folder}, beside files named after parts",)


def labelled(
    texts: Sequence[str],
    labels: Sequence[str],
    name: str,
    options: Options,
    places: Sequence[str] = (),
) -> Raw:
    """Return texts with a class each: x [N, T], y [N]. places: how each is named in errors."""
    refuse_other_task("classification", name, options)
    places = places or [f"row {i + 1} of {name}" for i in range(len(texts))]
    _refuse_empty(texts, places, "text", "row")
    for text, place in zip(texts, places, strict=True):
        check_encodable(text, place)
    words = [str(label).strip() for label in labels]
    like = options.get("like")
    notices: tuple[str, ...] = ()
    if like is None:
        y, classes = number_classes(words)
    else:
        classes = like.classes
        known = {label: k for k, label in enumerate(classes)}
        y = np.array([known.get(word, -1) for word in words], np.int64)
        notices = unseen_words(y, words, name)

    def encode(train: Array) -> Encoded:
        learnt = vocabulary([texts[int(i)] for i in train], options)
        rows, told = cut(learnt.encode_all(texts), options, places)
        x = pad([row if len(row) else [UNK] for row in rows])
        schema = Schema(
            "classification",
            x.shape[1:],
            classes,
            vocabulary=learnt.text,
            tokens=len(learnt),
        )
        return Encoded(x, y, schema, told)

    nothing = np.zeros((len(texts), 1), np.int32)
    placeholder = Schema("classification", (1,), classes)
    return Raw(
        nothing,
        y,
        placeholder,
        encode=encode,
        notices=notices,
        origins=places,
        digests=_digests(texts),
    )


def _digests(texts: Sequence[str]) -> Array:
    """Return a number per text [N], equal for equal texts whatever the vocabulary."""
    found = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(found), np.uint64)


def _refuse_empty(texts: Sequence[str], places: Sequence[str], what: str, thing: str) -> None:
    empty = [i for i, text in enumerate(texts) if not text.strip()]
    if empty:
        more = count(len(empty), f"such {thing}")
        raise DataError(f"{places[empty[0]]} has an empty {what} ({more}); remove or fill it")


def paired(
    pairs: Sequence[tuple[str, str]], name: str, options: Options, places: Sequence[str] = ()
) -> Raw:
    """Return sources with targets.

    x [N, S + T] holds the source and, from `<eos>` on, the target so far; y [N, T] the target.
    """
    refuse_other_task("pairs", name, options)
    places = places or [f"line {i + 1} of {name}" for i in range(len(pairs))]
    check_texts_fit([a for pair in pairs for a in pair], name)
    for pair, place in zip(pairs, places, strict=True):
        check_encodable("".join(pair), place)
    for side, title in enumerate(("source", "target")):
        _refuse_empty([pair[side] for pair in pairs], places, title, "line")
    like = options.get("like")

    def encode(train: Array) -> Encoded:
        learnt = vocabulary([text for i in train for text in pairs[int(i)]], options)
        sources, cut_sources = cut(learnt.encode_all([a for a, _ in pairs]), options, places)
        targets, cut_targets = cut(learnt.encode_all([b for _, b in pairs]), options, places)
        width = max(map(len, sources))
        if like:
            width = max(width, like.source)
        left = pad([row if len(row) else [UNK] for row in sources], width=max(1, width))
        right = pad([[EOS, *row] for row in targets])
        y = pad([[*row, EOS] for row in targets], -1)
        x = np.concatenate([left, right], 1)
        schema = Schema(
            "pairs",
            (x.shape[1],),
            vocabulary=learnt.text,
            tokens=len(learnt),
            source=left.shape[1],
        )
        return Encoded(x, y, schema, (*cut_sources, *cut_targets))

    nothing = np.zeros((len(pairs), 1), np.int32)
    return Raw(nothing, nothing, Schema("pairs", (1,)), encode=encode)
