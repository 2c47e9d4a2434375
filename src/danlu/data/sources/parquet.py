"""Parquet files and hub data sets: both are Arrow tables, of encoded pictures or of plain columns."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from danlu.data.parts import in_order, part_of
from danlu.data.raw import Raw
from danlu.data.sources import images, records, tables, text
from danlu.data.sources.columns import TARGETS, first_named
from danlu.data.sources.options import refuse_unused
from danlu.errors import DataError, count, reason_of, some
from danlu.host import hub_offline

if TYPE_CHECKING:
    import pandas as pd


def load_parquet(
    files: dict[str, list[Path]], classes: tuple[str, ...], shares: Any = None, **options: Any
) -> Raw:
    """Parquet files by part ("train", "valid", "test" or "all"); shares: of running text that each part gets."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parts = {p: pa.concat_tables([pq.read_table(f) for f in fs]) for p, fs in files.items()}
    except (pa.ArrowException, OSError) as e:
        raise DataError(
            f"{some(f.name for fs in files.values() for f in fs)} cannot be read as Parquet: {reason_of(e)}"
        ) from e
    every = [f for fs in files.values() for f in fs]
    return from_arrow(
        parts,
        every[0].name if len(every) == 1 else every[0].parent.name,
        classes,
        shares=shares,
        **options,
    )


def hub_parts(name: str) -> dict[str, Any]:
    """The Arrow tables of a data set of the Hugging Face hub, by `datasets` (cached; offline it must be there already)."""
    import datasets

    # What was fetched before is still found offline, and the rest fails at once.
    reach = contextlib.nullcontext() if _hub_answers() else hub_offline()
    try:
        with reach:
            found = datasets.load_dataset(name)
    except Exception as e:  # the hub's client raises a dozen unrelated kinds
        raise DataError(
            f"`hub:{name}` could not be loaded: {reason_of(e)}; check the name and the network"
        ) from e
    tables = {name: split.data.table for name, split in found.items()}
    parts = {part: table for name, table in tables.items() if (part := part_of(name))}
    return parts or {"all": next(iter(tables.values()))}


def _hub_answers() -> bool:
    """Whether the hub can be reached; its client would try for half a minute, and say so at every attempt."""
    if any(k in os.environ for k in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    host = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname or ""
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError:
        return False
    return True


def from_arrow(
    parts: dict[str, Any],
    name: str,
    classes: tuple[str, ...],
    *,
    target: str | None,
    task: str | None,
    mode: str | None,
    resize: tuple[int, int] | None,
    missing: str | None,
    budget: int,
    shares: Any = None,
    **of_text: Any,
) -> Raw:
    """Examples from Arrow tables, one per part; shares: of running text that each gets; of_text: the options of text."""
    import pyarrow as pa

    order = in_order(parts)
    try:
        same = len({frozenset(parts[p].column_names) for p in order}) == 1
        # A part without a single label has a column of type null, which is promoted; an absent column is not made up.
        table = pa.concat_tables(
            [parts[p] for p in order], promote_options="default" if same else "none"
        )
    except pa.ArrowException as e:
        raise DataError(f"the parts of {name} differ in their columns: {reason_of(e)}") from e
    if not table.num_rows:
        raise DataError(f"{name} has no rows")
    if len(parts) > 1:
        name += " (its parts in a row, training first)"  # that is how rows are counted below
    n_valid, n_test = (
        parts[p].num_rows if p in parts and len(parts) > 1 else 0 for p in ("valid", "test")
    )
    picture = next((f.name for f in table.schema if _is_picture(f.type)), None)
    if picture is None:
        frame = table.to_pandas()
        options = {
            "target": target,
            "task": task,
            "missing": missing,
            "mode": mode,
            "resize": resize,
            **of_text,
        }
        if table.column_names == ["text"]:
            refuse_unused(options, text.RUNNING, "running text")
            return text.language_model_text(
                {p: [t or "" for t in parts[p]["text"].to_pylist()] for p in order},
                name,
                options,
                shares,
            )
        for column in frame.columns:
            if (names := _names(table.schema, column)) and pa.types.is_integer(
                table.schema.field(column).type
            ):
                frame[column] = _named(frame[column], names)
        raw = records.from_frame(frame, name, {**options, "budget": budget})
        if raw.missing:
            needed = frame[list(raw.missing)].map(records.is_there) if raw.encode else frame.notna()
            n_valid, n_test = _left(needed.all(axis=1).to_numpy(), n_valid, n_test, name)
        return replace(raw, official_test=n_test, official_valid=n_valid)
    refuse_unused({"task": task, **of_text}, (), "pictures")
    return _pictures(
        table,
        picture,
        name,
        classes,
        target,
        mode,
        resize,
        missing == "drop",
        budget,
        n_valid,
        n_test,
    )


def _pictures(
    table: Any,
    picture: str,
    name: str,
    classes: tuple[str, ...],
    target: str | None,
    mode: str | None,
    resize: tuple[int, int] | None,
    drop: bool,
    budget: int,
    n_valid: int,
    n_test: int,
) -> Raw:
    """Encoded pictures of one column and their labels in another; the last n_valid + n_test rows are those parts."""
    import pyarrow as pa

    label = target or first_named(table.column_names, TARGETS)
    if label is None or label not in table.column_names:
        raise DataError(
            f"{name} has pictures, but the label is not named; its columns are {some(table.column_names, 8)}; use --target"
        )
    column, labels = table.column(picture), table.column(label)
    if pa.types.is_struct(column.type):
        column = pa.chunked_array([c.field("bytes") for c in column.chunks])
    gaps = {k: c.null_count for k, c in ((picture, column), (label, labels)) if c.null_count}
    if gaps and not drop:
        raise DataError(
            *(
                f"column {k!r} of {name} lacks {count(n, 'cell')}; fill {'it' if n == 1 else 'them'}, or use --missing drop"
                for k, n in gaps.items()
            )
        )
    kept = column.is_valid().to_numpy() & labels.is_valid().to_numpy()
    if gaps:
        lost = set(labels.drop_null().to_pylist()) - set(labels.filter(pa.array(kept)).to_pylist())
        if lost:
            raise DataError(tables.lost_classes(sorted(lost), name))
        column, labels = column.filter(pa.array(kept)), labels.filter(pa.array(kept))
        n_valid, n_test = _left(kept, n_valid, n_test, name)
    rows = [f"row {i + 1} of {name}" for i in np.flatnonzero(kept)]
    y, names = _labels(labels, _names(table.schema, label) or classes)
    x, schema = images.from_records(
        (v.as_py() for v in column), rows, y, names, mode, resize, budget
    )
    return Raw(x, y, schema, n_test, n_valid, gaps)


def _left(kept: np.ndarray[Any, Any], n_valid: int, n_test: int, name: str) -> tuple[int, int]:
    """Examples of the validation and test parts, the last ones, that are kept. A part must not vanish unnoticed."""
    n_train = len(kept) - n_valid - n_test
    left = [int(part.sum()) for part in np.split(kept, [n_train, n_train + n_valid])]
    gone = [
        p
        for p, n, had in zip(
            ("training", "validation", "test"), left, (n_train, n_valid, n_test), strict=True
        )
        if had and not n
    ]
    if not any(left):
        raise DataError(tables.no_whole_row(name))
    if gone:
        raise DataError(
            f"no row of the {' and the '.join(gone)} part of {name} is whole; fill its cells, or leave that file away"
        )
    return left[1], left[2]


def _is_picture(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind))


def _names(schema: Any, label: str) -> tuple[str, ...]:
    """Class names that the hub's library left in the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _named(numbers: pd.Series[Any], names: tuple[str, ...]) -> list[str | None]:
    """Classes by their names; of what is below 0, the hub's sign for a missing label, and of gaps none."""
    return [names[int(k)] if 0 <= k < len(names) else None for k in numbers.fillna(-1)]


def _labels(column: Any, names: tuple[str, ...]) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    values = column.to_pylist()
    if all(isinstance(v, int) for v in values):
        y = np.array(values, np.int64)
        return y, names or tuple(str(k) for k in range(int(y.max()) + 1))
    distinct = sorted({str(v) for v in values})
    index = {v: k for k, v in enumerate(distinct)}
    return np.array([index[str(v)] for v in values], np.int64), tuple(distinct)
