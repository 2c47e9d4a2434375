"""Text: running text for language models, labelled texts, pairs of texts.

Examples become rows of token numbers, filled up with `<pad>`; the vocabulary is learnt from the training part alone.
Legend: N examples, T tokens.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from danlu.data import split
from danlu.data.memmap import Array
from danlu.data.parts import PARTS, part_of
from danlu.data.raw import Raw
from danlu.data.schema import Schema
from danlu.data.text import check_encodable, pad
from danlu.data.vocabulary import EOS, PAD, UNK, Vocabulary, learn
from danlu.errors import DataError, count, nearest, some, wrong

LONGEST = 1024  # tokens of an example, unless told
WINDOW = 128  # tokens of running text in an example, unless told
_UNEVEN = 0.05  # how far from its share a part may be, so that no line is cut

OPTIONS = ("tokens", "vocabulary", "length", "encoding", "missing")  # of `load`, for every text
RUNNING = (*OPTIONS, "lines")
Options = dict[str, Any]


def read(path: Path, encoding: str | None = None) -> str:
    """The text of a file. Raises DataError, naming the first byte that is none."""
    try:
        return decoded(path.read_bytes(), path.name, encoding)
    except OSError as e:
        raise DataError(f"{path.name} cannot be read: {(e.strerror or str(e)).lower()}") from e


def decoded(content: bytes, name: str, encoding: str | None = None) -> str:
    """Bytes as text, by default of UTF-8 with or without a mark at its beginning."""
    mark = 0 if encoding else len(codecs.BOM_UTF8) * content.startswith(codecs.BOM_UTF8)
    try:
        return content[mark:].decode(encoding or "utf-8")
    except UnicodeDecodeError as e:
        marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        bad, other = (
            f"0x{e.object[e.start]:02x}",
            "utf-8" if encoding else "utf-16" if marked else "gb18030",
        )
        hint = f"name another encoding, such as --encoding {other}, or save it as UTF-8"
        raise DataError(
            f"{name} is no {encoding or 'utf-8'} text: byte {bad} at offset {e.start + mark:,}; {hint}"
        ) from e
    except (
        LookupError,
        ValueError,
        TypeError,
    ) as e:  # some codecs are of Python's own, and for no text
        raise DataError(
            wrong(
                "encoding",
                encoding,
                "must be one of text that Python knows",
                "try utf-8 or gb18030",
            )
        ) from e


def lines_of(content: str) -> list[str]:
    """What line feeds set apart: other signs that Python breaks lines at are text."""
    return content.replace("\r\n", "\n").split("\n")


def vocabulary(texts: Sequence[str], options: Options) -> Vocabulary:
    """What the options ask for, learnt from these texts; a trained network's own, where one is to read them."""
    if like := options.get("like"):
        return Vocabulary(like.vocabulary)
    return learn(texts, options.get("tokens") or "chars", options.get("vocabulary"))


def refuse_other_task(task: str, name: str, options: Options) -> None:
    """Raise DataError where a trained run of another task is to read this."""
    like = options.get("like")
    if like and like.task != task:
        raise DataError(
            f"the run was trained for {like.task} of text, but {name} is for {task}; give it a source of its kind"
        )


def refuse_long(
    rows: Sequence[Sequence[int]], options: Options, what: Callable[[int], str]
) -> None:
    """Raise DataError for examples longer than the limit; what: names one."""
    most = options.get("length") or LONGEST
    long = [i for i, row in enumerate(rows) if len(row) > most]
    if long:
        n = max(len(rows[i]) for i in long)
        raise DataError(
            f"{what(long[0])} has {len(rows[long[0]]):,} tokens, but the limit is {most:,} ({count(len(long), 'example')} "
            f"longer, the longest {n:,}); raise it with --length {n}, or cut them"
        )


def parts_of(files: Sequence[Path], folder: str) -> dict[str, list[Path]]:
    """Files by the part that their names begin with (train, valid or dev, test); "all" where none does.

    Raises DataError where some say so and others do not, or none is for training.
    """
    found: dict[str, list[Path]] = {}
    for f in sorted(files):
        found.setdefault(part_of(re.split(r"[^a-z]", f.name.lower())[0]) or "all", []).append(f)
    if len(found) > 1 and "all" in found:
        rest = some(f.name for f in found["all"])
        raise DataError(
            f"{folder} has files named after parts, and {rest}; name every file so (train, valid, test), or none"
        )
    if found and not {"all", "train"} & set(found):
        raise DataError(
            f"{folder} has {some(f.name for of in found.values() for f in of)}, but no file for training; name it train…"
        )
    return found


def language_model_text(
    texts: dict[str, list[str]], name: str, options: Options, shares: Any = None
) -> Raw:
    """Running text for a language model: each token is predicted from those before it.

    texts: documents by part ("all", or train, valid and test). The stream of a part is cut into windows of `length`
    tokens, in order; x [N, T] and y [N, T], the tokens one further on. With `lines`, every line is a text of its own,
    from `<eos>` to `<eos>`. shares: of "all" that each part gets.
    """
    if not any(t.strip() for part in texts.values() for t in part):
        raise DataError(f"{name} holds no text")
    for t in (t for part in texts.values() for t in part):
        check_encodable(t, name)
    refuse_other_task("language", name, options)
    texts = {"all": texts["train"]} if set(texts) == {"train"} else texts
    if options.get("like"):
        texts = {"test": [t for of in texts.values() for t in of]}
    lines = bool(options["like"].lines if options.get("like") else options.get("lines"))
    if "all" in texts:
        texts = _parted(texts["all"], shares, lines)
    if lines:
        texts = {
            p: [line for t in of for line in lines_of(t) if line.strip()] for p, of in texts.items()
        }
        if not texts.get("train") and not options.get("like"):
            raise DataError(f"{name} has no line with text in its training part")
    learnt = vocabulary(
        [line for t in texts.get("train", []) for line in t.splitlines(True)], options
    )
    several = sum(map(len, texts.values())) > len(texts)  # documents, each with an end
    pairs = [_windows(texts.get(p, []), learnt, options, several, lines) for p in PARTS]
    width = max((len(row) for of in pairs for row in of), default=1) - 1
    if not pairs[0] and not (options.get("like") and pairs[2]):
        raise DataError(f"{name} is too short: its training part must hold at least 2 tokens")
    x = np.concatenate([pad([row[:-1] for row in of], PAD, width) for of in pairs if of])
    y = np.concatenate([pad([row[1:] for row in of], -1, width) for of in pairs if of])
    schema = Schema("language", (width,), vocabulary=learnt.text, tokens=len(learnt), lines=lines)
    return Raw(
        x, y, schema, official_test=len(pairs[2]), official_valid=len(pairs[1]), presplit=True
    )


def _parted(texts: list[str], shares: Any, lines: bool) -> dict[str, list[str]]:
    """The beginning for training, then validation and test: cut between documents, where that misses a share at line ends,
    and where lines are as long anywhere.

    lines: are texts of their own, and none is ever cut.
    """
    parts = np.array(split.parse(shares) if shares is not None else (0.8, 0.1, 0.1))
    whole, ends = "".join(texts), np.cumsum([0, *map(len, texts)])
    cuts = _cuts(ends, parts)
    if _misses(cuts, parts) > _UNEVEN:
        cuts = _cuts(
            np.union1d(ends, np.array([m.end() for m in re.finditer("\n", whole)], np.int64)), parts
        )
    if _misses(cuts, parts) > _UNEVEN and not lines:
        cuts = np.round(np.cumsum([0, *parts]) * len(whole)).astype(np.int64)
    found: dict[str, list[str]] = {}
    for part, (start, end) in zip(PARTS, pairwise(cuts.tolist()), strict=True):
        own = [
            whole[max(start, a) : min(end, b)]
            for a, b in pairwise(ends.tolist())
            if max(start, a) < min(end, b)
        ]
        found |= {part: own} if own else {}
    return found


def _cuts(places: Array, parts: Array) -> Array:
    """Beginning, two cuts and end: each cut at the place that is nearest, with something left for every part."""
    cuts, left, last = [0], int((parts > 0).sum()), len(places) - 1
    for share, wanted in zip(parts[:-1], np.cumsum(parts) * places[-1], strict=False):
        left -= share > 0
        least = min(cuts[-1] + (share > 0), last)
        near = places[least : max(least, last - left) + 1]
        cuts.append(least + int(np.abs(near - (wanted if share else places[cuts[-1]])).argmin()))
    return places[[*cuts, last]]


def _misses(cuts: Array, parts: Array) -> float:
    """How far the part that is farthest off its share is."""
    return float(np.abs(np.diff(cuts) / max(1, cuts[-1]) - parts).max())


def _windows(
    texts: Sequence[str], learnt: Vocabulary, options: Options, several: bool, lines: bool
) -> list[list[int]]:
    """Rows of at most `length` + 1 tokens; each begins with the last of the one before. lines: a row each."""
    if lines:
        rows = [[EOS, *ids, EOS] for ids in learnt.encode_all(texts)]
        refuse_long(rows, options, lambda i: f"line {texts[i][:30]!r}")
        return rows
    like = options.get("like")
    step = options.get("length") or (like.input_shape[0] if like else WINDOW)
    stream = [EOS]
    for t in texts:
        stream += [n for ids in learnt.encode_all(t.splitlines(True)) for n in ids]
        stream += [EOS] if several else []
    return [stream[i : i + step + 1] for i in range(0, len(stream) - 1, step)]


def labelled(
    texts: Sequence[str],
    labels: Sequence[str],
    name: str,
    options: Options,
    places: Sequence[str] = (),
) -> Raw:
    """Texts with a class each: x [N, T], y [N]. places: how each is named in errors."""
    refuse_other_task("classification", name, options)
    place = places or [f"row {i + 1} of {name}" for i in range(len(texts))]
    empty = [i for i, t in enumerate(texts) if not t.strip()]
    if empty:
        raise DataError(
            f"{place[empty[0]]} has an empty text ({count(len(empty), 'such row')}); remove or fill it"
        )
    for t, where in zip(texts, place, strict=True):
        check_encodable(t, where)
    found, y = np.unique(np.array(labels, dtype=object).astype(str), return_inverse=True)
    classes = tuple(found.tolist())
    if like := options.get("like"):
        y = np.array([_known(c, like.classes, name) for c in classes])[y]
        classes = like.classes

    def encode(train: Array) -> tuple[Array, Array, Schema]:
        learnt = vocabulary([texts[int(i)] for i in train], options)
        rows = learnt.encode_all(texts)
        refuse_long(rows, options, lambda i: place[i])
        x = pad([row or [UNK] for row in rows])
        return (
            x,
            y,
            Schema(
                "classification", x.shape[1:], classes, vocabulary=learnt.text, tokens=len(learnt)
            ),
        )

    placeholder = Schema("classification", (1,), classes)
    return Raw(np.zeros((len(texts), 1), np.int32), y.astype(np.int64), placeholder, encode=encode)


def _known(label: str, classes: Sequence[str], name: str) -> int:
    """The number of a class that a trained network tells."""
    if label not in classes:
        near = nearest(label, classes)
        hint = f"did you mean {near!r}?" if near else f"it knows {some(classes, 8)}"
        raise DataError(f"{name} has the label {label!r}, which the run was not trained on; {hint}")
    return classes.index(label)


def paired(
    pairs: Sequence[tuple[str, str]], name: str, options: Options, places: Sequence[str] = ()
) -> Raw:
    """Sources with targets: x [N, S + T] holds the source and, from `<eos>` on, the target so far; y [N, T] the target."""
    refuse_other_task("pairs", name, options)
    place = places or [f"line {i + 1} of {name}" for i in range(len(pairs))]
    for p, where in zip(pairs, place, strict=True):
        check_encodable("".join(p), where)
    empty = [
        (i, side)
        for i, p in enumerate(pairs)
        for side, t in zip(("source", "target"), p, strict=True)
        if not t.strip()
    ]
    if empty:
        i, side = empty[0]
        raise DataError(
            f"{place[i]} has an empty {side} ({count(len(empty), 'such line')}); remove or fill it"
        )

    def encode(train: Array) -> tuple[Array, Array, Schema]:
        learnt = vocabulary([t for i in train for t in pairs[int(i)]], options)
        sources, targets = (learnt.encode_all([p[side] for p in pairs]) for side in (0, 1))
        for rows in (sources, targets):
            refuse_long(rows, options, lambda i: place[i])
        like = options.get("like")
        left = pad(
            [row or [UNK] for row in sources],
            width=max(like.source if like else 0, *map(len, sources)),
        )
        right, y = (
            pad([[EOS, *row] for row in targets]),
            pad([[*row, EOS] for row in targets], -1),
        )
        schema = Schema(
            "pairs",
            (left.shape[1] + right.shape[1],),
            vocabulary=learnt.text,
            tokens=len(learnt),
            source=left.shape[1],
        )
        return np.concatenate([left, right], 1), y, schema

    x = np.zeros((len(pairs), 1), np.int32)
    return Raw(x, np.zeros((len(pairs), 1), np.int32), Schema("pairs", (1,)), encode=encode)
