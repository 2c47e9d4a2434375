"""Text: running text for language models, labelled texts, pairs of texts.

Examples become rows of token numbers, filled up with `<pad>`; the vocabulary is learnt from the training part alone.
Legend: N examples, T tokens.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from danlu.data import split
from danlu.data.arrays import Array
from danlu.data.data import Raw
from danlu.data.options import refuse_unused
from danlu.data.schema import Schema
from danlu.data.vocabulary import EOS, PAD, Vocabulary, learn
from danlu.errors import DataError, count, nearest, some, wrong

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 1024  # tokens of an example, unless told
WINDOW = 128  # tokens of running text in an example, unless told
_TEXT = ("text", "sentence", "review", "content", "comment", "sequence")
_LABEL = ("label", "class", "target", "sentiment", "category", "y")
_PAIRS = (("source", "target"), ("src", "tgt"), ("input", "output"), ("question", "answer"))

OPTIONS = ("tokens", "vocabulary", "length", "lines", "encoding", "missing")  # of `load`, that mean something to text
Options = dict[str, Any]


def read(path: Path, encoding: str | None = None) -> str:
    """The text of a file. Raises DataError, naming the first byte that is none."""
    try:
        return path.read_bytes().decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as e:
        tried = encoding or "utf-8"
        bad = f"0x{e.object[e.start]:02x}"
        other = "gb18030" if not encoding else "utf-8"
        hint = f"name another encoding, such as --encoding {other}, or save it as UTF-8"
        raise DataError(f"{path.name} is no {tried} text: byte {bad} at offset {e.start:,}; {hint}") from e
    except LookupError as e:
        raise DataError(wrong("encoding", encoding, "must be one that Python knows", "try utf-8 or gb18030")) from e
    except OSError as e:
        raise DataError(f"{path.name} cannot be read: {e.strerror or e}") from e


def padded(rows: Sequence[Sequence[int]], fill: int = PAD, width: int | None = None) -> Array:
    """Rows of unequal length as [N, T] of int32."""
    width = width or max(map(len, rows))
    out = np.full((len(rows), width), fill, np.int32)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def trimmed(x: Tensor, y: Tensor, source: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens x [..., T] without the columns that are padding in every example, and the targets y that go with them.

    source: how many columns come before the first that has a target.
    """
    end = int((x != PAD).flatten(0, -2).any(0).nonzero()[-1]) + 1
    return x[..., :end], y[..., : end - source] if y.ndim == x.ndim else y


def vocabulary(texts: Sequence[str], options: Options) -> Vocabulary:
    """What the options ask for, learnt from these texts."""
    return learn(texts, options.get("tokens") or "chars", options.get("vocabulary"))


def refuse_long(rows: Sequence[Sequence[int]], options: Options, what: Callable[[int], str]) -> None:
    """Raise DataError for examples longer than the limit; what: names one."""
    most = options.get("length") or LONGEST
    long = [i for i, row in enumerate(rows) if len(row) > most]
    if long:
        n = max(len(rows[i]) for i in long)
        raise DataError(
            f"{what(long[0])} has {len(rows[long[0]]):,} tokens, but the limit is {most:,} ({count(len(long), 'example')} "
            f"longer, the longest {n:,}); raise it with --length {n}, or cut them"
        )


def running(texts: dict[str, list[str]], name: str, options: Options, shares: Any = None) -> Raw:
    """Running text for a language model: each token is predicted from those before it.

    texts: documents by part ("all", or train, valid and test). The stream of a part is cut into windows of `length`
    tokens, in order; x [N, T] and y [N, T], the tokens one further on. With `lines`, every line is a text of its own,
    from `<eos>` to `<eos>`. shares: of "all" that each part gets.
    """
    if not any(t.strip() for part in texts.values() for t in part):
        raise DataError(f"{name} holds no text")
    if "all" in texts:
        texts = _thirds("\n".join(texts["all"]) if len(texts["all"]) == 1 else texts["all"], shares)
    if options.get("lines"):
        texts = {p: [line for t in of for line in t.splitlines() if line.strip()] for p, of in texts.items()}
        if not texts["train"]:
            raise DataError(f"{name} has no line with text in its training part")
    learnt = vocabulary([line for t in texts["train"] for line in t.splitlines(True)], options)
    several = sum(map(len, texts.values())) > len(texts)  # documents, each with an end
    pairs = [_windows(texts.get(p, []), learnt, options, several) for p in ("train", "valid", "test")]
    width = max((len(row) for of in pairs for row in of), default=1) - 1
    if not pairs[0]:
        raise DataError(f"{name} is too short: its training part must hold at least 2 tokens")
    x = np.concatenate([padded([row[:-1] for row in of], PAD, width) for of in pairs if of])
    y = np.concatenate([padded([row[1:] for row in of], -1, width) for of in pairs if of])
    schema = Schema("language", (width,), vocabulary=learnt.text, tokens=len(learnt), lines=bool(options.get("lines")))
    return Raw(x, y, schema, official_test=len(pairs[2]), official_valid=len(pairs[1]), cut=True)


def _thirds(text: str | list[str], shares: Any) -> dict[str, list[str]]:
    """The beginning for training, then validation and test; cut at line ends (or between documents)."""
    parts = split.parse(shares) if shares is not None else (0.8, 0.1, 0.1)
    units: Sequence[str] = text.splitlines(True) if isinstance(text, str) else text
    ends = np.cumsum([len(u) for u in units])
    a = int(np.searchsorted(ends, parts[0] * ends[-1])) + 1
    b = int(np.searchsorted(ends, (parts[0] + parts[1]) * ends[-1])) + 1 if parts[1] else a
    if len(units) < 3:  # one long line
        whole = "".join(units)
        i, j = int(parts[0] * len(whole)), int((parts[0] + parts[1]) * len(whole))
        return {"train": [whole[:i]], "valid": [whole[i:j]], "test": [whole[j:]]}
    cut = {"train": units[:a], "valid": units[a:b], "test": units[b:]}
    return {p: ["".join(of)] if isinstance(text, str) else list(of) for p, of in cut.items() if of}


def _windows(texts: Sequence[str], learnt: Vocabulary, options: Options, several: bool) -> list[list[int]]:
    """Rows of at most `length` + 1 tokens; each begins with the last of the one before."""
    if options.get("lines"):
        rows = [[EOS, *ids, EOS] for ids in learnt.encode_all(texts)]
        refuse_long(rows, options, lambda i: f"line {texts[i][:30]!r}")
        return rows
    step = options.get("length") or WINDOW
    stream = [EOS]
    for t in texts:
        lines = learnt.encode_all(t.splitlines(True))
        stream += [n for ids in lines for n in ids]
        stream += [EOS] if several else []
    return [stream[i : i + step + 1] for i in range(0, len(stream) - 1, step)]


def labelled(texts: Sequence[str], labels: Sequence[str], name: str, options: Options, places: Sequence[str] = ()) -> Raw:
    """Texts with a class each: x [N, T], y [N]. places: how each is named in errors."""
    place = places or [f"row {i + 1} of {name}" for i in range(len(texts))]
    empty = [i for i, t in enumerate(texts) if not t.strip()]
    if empty:
        raise DataError(f"{place[empty[0]]} has an empty text ({count(len(empty), 'such row')}); remove or fill it")
    classes, y = np.unique(np.array(labels, dtype=object).astype(str), return_inverse=True)

    def encode(train: Array) -> tuple[Array, Array, Schema]:
        learnt = vocabulary([texts[int(i)] for i in train], options)
        rows = learnt.encode_all(texts)
        refuse_long(rows, options, lambda i: place[i])
        x = padded([row or [1] for row in rows])
        return x, y, Schema("classification", x.shape[1:], tuple(classes), vocabulary=learnt.text, tokens=len(learnt))

    placeholder = Schema("classification", (1,), tuple(classes))
    return Raw(np.zeros((len(texts), 1), np.int32), y.astype(np.int64), placeholder, encode=encode)


def paired(pairs: Sequence[tuple[str, str]], name: str, options: Options, places: Sequence[str] = ()) -> Raw:
    """Sources with targets: x [N, S + T] holds the source and, from `<eos>` on, the target so far; y [N, T] the target."""
    place = places or [f"line {i + 1} of {name}" for i in range(len(pairs))]
    empty = [(i, side) for i, p in enumerate(pairs) for side, t in zip(("source", "target"), p, strict=True) if not t.strip()]
    if empty:
        i, side = empty[0]
        raise DataError(f"{place[i]} has an empty {side} ({count(len(empty), 'such line')}); remove or fill it")

    def encode(train: Array) -> tuple[Array, Array, Schema]:
        learnt = vocabulary([t for i in train for t in pairs[int(i)]], options)
        sources, targets = (learnt.encode_all([p[side] for p in pairs]) for side in (0, 1))
        for rows in (sources, targets):
            refuse_long(rows, options, lambda i: place[i])
        left = padded([row or [1] for row in sources])
        right, y = padded([[EOS, *row] for row in targets]), padded([[*row, EOS] for row in targets], -1)
        schema = Schema(
            "pairs", (left.shape[1] + right.shape[1],), vocabulary=learnt.text, tokens=len(learnt), source=left.shape[1]
        )
        return np.concatenate([left, right], 1), y, schema

    x = np.zeros((len(pairs), 1), np.int32)
    return Raw(x, np.zeros((len(pairs), 1), np.int32), Schema("pairs", (1,)), encode=encode)


def from_records(path: Path, options: Options) -> Raw:
    """JSONL: an object a line, with a text and a label, or with a source and a target."""
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    for k, line in enumerate(read(path, options.get("encoding")).splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as e:
            raise DataError(f"line {k} of {path.name} is no JSON: {e}") from e
        if not isinstance(found, dict):
            raise DataError(f'line {k} of {path.name} is no JSON object; write {{"text": …, "label": …}}')
        rows.append(found)
        places.append(f"line {k} of {path.name}")
    if not rows:
        raise DataError(f"{path.name} has no lines")
    return from_columns([{str(k): v for k, v in r.items()} for r in rows], places, path.name, options)


def from_frame(frame: pd.DataFrame, name: str, options: Options) -> Raw:
    """A table, each row an example: of text, or of numbers and categories."""
    from danlu.data import tables

    if options["task"] not in ("text", "pairs") and not tables.is_text(frame, options["target"], options["task"]):
        return tables.from_frame(frame, name, **options)
    refuse_unused(options, (*OPTIONS, "target", "task"), "a table of text")
    rows = [{str(k): None if v is None or v != v else v for k, v in r.items()} for r in frame.to_dict("records")]
    return from_columns(rows, [f"row {i + 1} of {name}" for i in range(len(rows))], name, options)


def from_columns(rows: Sequence[dict[str, Any]], places: Sequence[str], name: str, options: Options) -> Raw:
    """Rows with named cells: labelled texts, or pairs."""
    keys = list(dict.fromkeys(k for r in rows for k in r))
    two = next(((a, b) for a, b in _PAIRS if {a, b} <= set(keys)), None)
    if options.get("task") == "pairs" or (two and options.get("task") is None):
        a, b = two or _named(keys, name)
        return paired([(_cell(r, a, p), _cell(r, b, p)) for r, p in zip(rows, places, strict=True)], name, options, places)
    target = options.get("target") or next((k for k in keys if k.lower() in _LABEL), None)
    if target not in keys:
        near = nearest(str(target), keys) if target else None
        hint = f"did you mean {near!r}?" if near else "name the label's with --target"
        raise DataError(f"{name} has the fields {some(keys, 8)}, but none for the label; {hint}")
    rest = [k for k in keys if k != target]
    text = next((k for k in rest if k.lower() in _TEXT), rest[0] if len(rest) == 1 else None)
    if text is None:
        raise DataError(f"{name} has the fields {some(keys, 8)}, but none is named text; rename the one that holds it")
    texts, labels = ([_cell(r, k, p) for r, p in zip(rows, places, strict=True)] for k in (text, target))
    return labelled(texts, labels, name, options, places)


def _named(keys: Sequence[str], name: str) -> tuple[str, str]:
    if len(keys) != 2:
        raise DataError(f"{name} has the fields {some(keys, 8)}, but pairs need a source and a target; name them so")
    return keys[0], keys[1]


def _cell(row: dict[str, Any], key: str, place: str) -> str:
    if row.get(key) is None:
        raise DataError(f"{place} lacks {key!r}; every line needs it")
    return str(row[key])


def from_pairs(path: Path, options: Options) -> Raw:
    """TSV without a header: source and target on a line."""
    text = read(path, options.get("encoding"))
    pairs, places = [], []
    for k, cells in enumerate(csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE), 1):
        if not cells or not any(c.strip() for c in cells):
            continue
        if len(cells) != 2:
            raise DataError(f"line {k} of {path.name} has {count(len(cells), 'column')}, but pairs have a source and a target")
        if k == 1 and tuple(c.strip().lower() for c in cells) in _PAIRS:
            continue
        pairs.append((cells[0].strip(), cells[1].strip()))
        places.append(f"line {k} of {path.name}")
    if not pairs:
        raise DataError(f"{path.name} has no pairs; write a source, a tab and a target on each line")
    return paired(pairs, path.name, options, places)
