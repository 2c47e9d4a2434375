"""Text in rows with named cells: tables, JSON lines, pairs by a tab."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.raw import Raw
from danlu.data.sources.columns import LABELS_OF_TEXT, TEXT, first_named
from danlu.data.sources.options import refuse_unused
from danlu.data.sources.text import OPTIONS, Options, labelled, lines_of, paired, read
from danlu.errors import DataError, count, nearest, some, wrong

if TYPE_CHECKING:
    import pandas as pd

_PAIRS = (("source", "target"), ("src", "tgt"), ("input", "output"), ("question", "answer"))


def from_records(path: Path, options: Options) -> Raw:
    """JSONL: an object a line, with a text and a label, or with a source and a target."""
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    for k, line in enumerate(lines_of(read(path, options.get("encoding"))), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as e:
            raise DataError(f"line {k} of {path.name} is no JSON: {e}") from e
        if not isinstance(found, dict):
            raise DataError(
                f'line {k} of {path.name} is no JSON object; write {{"text": …, "label": …}}'
            )
        rows.append(found)
        places.append(f"line {k} of {path.name}")
    if not rows:
        raise DataError(f"{path.name} has no lines")
    if options["task"] == "regression":
        raise DataError(
            wrong(
                "task",
                "regression",
                "must be left out: JSON lines hold texts, with labels or in pairs",
            )
        )
    return from_columns(
        [{str(k): v for k, v in r.items()} for r in rows], places, path.name, options
    )


def from_table(path: Path, options: Options) -> Raw:
    """A CSV or TSV file, each row an example. The cells of text stay as they are written: 01 is not 1, and NA is a word."""
    from danlu.data.sources import tables

    frame = tables.read(path, options["encoding"])
    if _is_text(frame, options):
        frame = tables.read(path, options["encoding"], as_text=True)
    return from_frame(frame, path.name, options)


def _is_text(frame: pd.DataFrame, options: Options) -> bool:
    from danlu.data.sources import tables

    told = options["task"] in ("text", "pairs") or options.get("like") is not None
    return told or tables.is_text(frame, options["target"], options["task"])


def from_frame(frame: pd.DataFrame, name: str, options: Options) -> Raw:
    """A table, each row an example: of text, or of numbers and categories."""
    from danlu.data.sources import tables

    if not _is_text(frame, options):
        return tables.from_frame(frame, name, **options)
    refuse_unused(options, (*OPTIONS, "target", "task"), "a table of text")
    rows = [
        {str(k): v if is_given(v) else None for k, v in r.items()} for r in frame.to_dict("records")
    ]
    return from_columns(rows, [f"row {i + 1} of {name}" for i in range(len(rows))], name, options)


def asks_pairs(options: Options) -> bool:
    """Whether a trained run is to read these, and it reads pairs."""
    like = options.get("like")
    return like is not None and like.task == "pairs"


def from_columns(
    rows: Sequence[dict[str, Any]], places: Sequence[str], name: str, options: Options
) -> Raw:
    """Rows with named cells: labelled texts, or pairs."""
    keys = list(dict.fromkeys(k for r in rows for k in r))
    two = next(((a, b) for a, b in _PAIRS if {a, b} <= set(keys)), None)
    if (
        options.get("task") == "pairs"
        or asks_pairs(options)
        or (two and options.get("task") is None)
    ):
        a, b = two or _named(keys, name)
        rows, places, gaps = _present(rows, places, (a, b), name, options)
        pairs = [(_cell(r, a, p), _cell(r, b, p)) for r, p in zip(rows, places, strict=True)]
        return replace(paired(pairs, name, options, places), missing=gaps)
    target = options.get("target") or first_named(keys, LABELS_OF_TEXT)
    if target not in keys:
        near = nearest(str(target), keys) if target else None
        hint = f"did you mean {near!r}?" if near else "name the label's with --target"
        raise DataError(f"{name} has the fields {some(keys, 8)}, but none for the label; {hint}")
    rest = [k for k in keys if k != target]
    text = first_named(rest, TEXT) or (rest[0] if len(rest) == 1 else None)
    if text is None:
        raise DataError(
            f"{name} has the fields {some(keys, 8)}, but none is named text; rename the one that holds it"
        )
    rows, places, gaps = _present(rows, places, (text, str(target)), name, options)
    texts, labels = (
        [_cell(r, k, p) for r, p in zip(rows, places, strict=True)] for k in (text, target)
    )
    return replace(labelled(texts, labels, name, options, places), missing=gaps)


def is_given(cell: Any) -> bool:
    """Whether a cell of a table holds a value."""
    import pandas as pd

    return not (pd.api.types.is_scalar(cell) and pd.isna(cell))


def is_there(cell: Any) -> bool:
    """Whether a cell holds anything to read."""
    return is_given(cell) and bool(str(cell).strip())


def _present(
    rows: Sequence[dict[str, Any]],
    places: Sequence[str],
    keys: tuple[str, str],
    name: str,
    options: Options,
) -> tuple[Sequence[dict[str, Any]], Sequence[str], dict[str, int]]:
    """All rows, or with `missing="drop"` those that have both cells, and how many cells each column lacked."""
    if options.get("missing") != "drop":
        return rows, places, {}
    kept = [i for i, r in enumerate(rows) if all(is_there(r.get(k)) for k in keys)]
    if not kept:
        raise DataError(f"every row of {name} lacks {keys[0]!r} or {keys[1]!r}; fill them")
    gaps = {k: n for k in keys if (n := sum(not is_there(r.get(k)) for r in rows))}
    return [rows[i] for i in kept], [places[i] for i in kept], gaps


def _named(keys: Sequence[str], name: str) -> tuple[str, str]:
    if len(keys) != 2:
        raise DataError(
            f"{name} has the fields {some(keys, 8)}, but pairs need a source and a target; name them so"
        )
    return keys[0], keys[1]


def _cell(row: dict[str, Any], key: str, place: str) -> str:
    value = row.get(key)
    if value is None:
        raise DataError(
            f"{place} lacks {key!r}; fill it, or leave such rows out with --missing drop"
        )
    if isinstance(value, (list, tuple, dict, np.ndarray)):
        what = "table" if isinstance(value, dict) else "list"
        raise DataError(
            f"{place} has a {what} as {key!r}, but it must be text; join it, or write tagged text as a .bio file"
        )
    return str(value)


def from_pairs(path: Path, options: Options) -> Raw:
    """TSV without a header: source and target on a line."""
    lines: list[dict[str, Any]] = []
    where: list[str] = []
    for k, line in enumerate(lines_of(read(path, options.get("encoding"))), 1):
        cells = [c.strip() for c in line.split("\t")]
        if not any(cells):
            continue
        if len(cells) != 2 and not (len(cells) == 1 and options.get("missing") == "drop"):
            found = f"line {k} of {path.name} has {count(len(cells), 'column')}"
            raise DataError(f"{found}, but pairs have a source and a target; part them by one tab")
        if k == 1 and tuple(c.lower() for c in cells) in _PAIRS:
            continue
        lines.append({"source": cells[0], "target": (*cells, "")[1]})
        where.append(f"line {k} of {path.name}")
    if not lines:
        raise DataError(
            f"{path.name} has no pairs; write a source, a tab and a target on each line"
        )
    rows, places, gaps = _present(lines, where, ("source", "target"), path.name, options)
    return replace(
        paired([(r["source"], r["target"]) for r in rows], path.name, options, places), missing=gaps
    )
