"""Parquet files and hub data sets: Arrow tables of encoded pictures or of plain columns."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from danlu.data.memmap import Array
from danlu.data.parts import Sizes, in_order, part_of, part_of_file, sizes_left
from danlu.data.raw import Raw
from danlu.data.reading_memory import check_table_fits
from danlu.data.schema import Schema
from danlu.data.sources import columns, frames, images
from danlu.data.sources.arrow import ARROW, frame_of_arrow, read_arrow
from danlu.data.sources.download import refusal
from danlu.data.sources.options import Options, refuse_unused
from danlu.data.sources.running import language_model_text, refuse_for_running_text
from danlu.errors import DataError, count, reason_of, some
from danlu.files import parse_json
from danlu.host import hub_offline

if TYPE_CHECKING:
    import pandas as pd

Tables = dict[str, Any]  # Arrow tables by part: "all" alone, or train, valid, test


def files_of(folder: Path) -> dict[str, list[Path]]:
    """Return Parquet and Arrow files of a folder by part, as the hub names them."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        is_table = file.suffix.lower() in (".parquet", *ARROW) and file.is_file()
        if not is_table or file.name.startswith("."):
            continue
        part = part_of_file(file.name) or part_of_file(file.parent.name) or "all"
        found.setdefault(part, []).append(file)
    return found


def load_parquet(
    files: dict[str, list[Path]], classes: tuple[str, ...], options: Options, shares: Any = None
) -> Raw:
    """Return the examples of files by part ("train", "valid", "test" or "all").

    shares: of running text that each part gets.
    """
    import pyarrow as pa

    parts = {}
    every: list[Path] = []
    cells = size = 0
    for part, of_part in files.items():
        every += of_part
        tables = []
        for file in of_part:
            table = read_arrow(file)
            tables.append(table)
            cells += table.num_rows * table.num_columns
            size += table.nbytes
            check_table_fits(cells, size, f"{file.parent.name}, up to {file.name},", least=True)
        try:
            parts[part] = pa.concat_tables(tables)
        except pa.ArrowException as e:
            listed = some(file.name for file in of_part)
            raise DataError(f"{listed} differ in their columns: {reason_of(e)}") from e
    name = every[0].name if len(every) == 1 else every[0].parent.name
    return from_arrow(parts, name, classes, options, shares)


def hub_parts(name: str) -> Tables:
    """Return the tables of a data set of the Hugging Face hub, by `datasets`.

    They are cached; offline they must be there already. Raises DataError.
    """
    import datasets

    # What was fetched before is still found offline, and the rest fails at once.
    refused = refusal()
    reaches = not refused and _hub_answers()
    reach = contextlib.nullcontext() if reaches else hub_offline()
    try:
        with reach:
            found = datasets.load_dataset(name)
    except Exception as e:  # the hub's client raises a dozen unrelated kinds
        why = f"it is not on this machine, {refused}" if refused else reason_of(e)
        hint = "" if refused else "; check the name and the network"
        raise DataError(f"`hub:{name}` could not be loaded: {why}{hint}") from e
    tables = {split: of_split.data.table for split, of_split in found.items()}
    parts = {}
    for split, table in tables.items():
        part = part_of(split)
        if part:
            parts[part] = table
    return parts or {"all": next(iter(tables.values()))}


def _hub_answers() -> bool:
    """Whether the hub can be reached; its client would try for half a minute, and say so."""
    if any(k in os.environ for k in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    host = urlsplit(endpoint).hostname or ""
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError:
        return False
    return True


def from_arrow(
    parts: Tables, name: str, classes: tuple[str, ...], options: Options, shares: Any = None
) -> Raw:
    """Return examples from one Arrow table for each part.

    classes: names of class numbers, where the file has none. shares: of running text.
    """
    table = _in_a_row(parts, name)
    if not table.num_rows:
        raise DataError(f"{name} has no rows")
    if len(parts) > 1:
        name += " (its parts in a row, training first)"  # that is how rows are counted below
    picture = next((f.name for f in table.schema if _is_picture(f.type)), None)
    if picture is not None:
        unused = {
            k: v for k, v in options.items() if k not in ("target", "mode", "resize", "missing")
        }
        refuse_unused(unused, (), "pictures")
        return _pictures(table, picture, name, classes, options, _sizes(parts))
    if table.column_names == ["text"]:
        refuse_for_running_text(options)
        documents = {}
        for part in in_order(parts):
            documents[part] = [t or "" for t in parts[part]["text"].to_pylist()]
        return language_model_text(documents, name, options, shares)
    return frames.from_frame(_frame(table), name, options, _sizes(parts))


def _in_a_row(parts: Tables, name: str) -> Any:
    import pyarrow as pa

    tables = [parts[part] for part in in_order(parts)]
    has_same_columns = len({frozenset(table.column_names) for table in tables}) == 1
    # A part without a single label has a column of type null, which is promoted; an absent column
    # is not made up.
    promote = "default" if has_same_columns else "none"
    try:
        return pa.concat_tables(tables, promote_options=promote)
    except pa.ArrowException as e:
        raise DataError(f"the parts of {name} differ in their columns: {reason_of(e)}") from e


def _sizes(parts: Tables) -> Sizes:
    if len(parts) == 1:
        return Sizes()
    sizes = {part: table.num_rows for part, table in parts.items()}
    return Sizes(sizes.get("valid", 0), sizes.get("test", 0))


def _frame(table: Any) -> pd.DataFrame:
    """Return a data frame whose class numbers are names, where the hub's library left some."""
    import pyarrow as pa

    frame = frame_of_arrow(table)
    for column in frame.columns:
        names = _names(table.schema, column)
        if names and pa.types.is_integer(table.schema.field(column).type):
            frame[column] = _named(frame[column], names)
    return frame


def _pictures(
    table: Any,
    picture: str,
    name: str,
    classes: tuple[str, ...],
    options: Options,
    sizes: Sizes,
) -> Raw:
    """Return encoded pictures of one column with their labels in another."""
    import pyarrow as pa

    label = options["target"] or columns.first_named(table.column_names, columns.TARGETS)
    if label is None or label not in table.column_names:
        raise DataError(
            f"{name} has pictures, but the label is not named; its columns are "
            f"{some(table.column_names, 8)}; use --target"
        )
    column = table.column(picture)
    labels = table.column(label)
    if pa.types.is_struct(column.type):
        column = pa.chunked_array([chunk.field("bytes") for chunk in column.chunks])
    gaps = {}
    for title, values in ((picture, column), (label, labels)):
        if values.null_count:
            gaps[title] = values.null_count
    if options["missing"] != "drop":
        _refuse_gaps(gaps, name)
    kept = column.is_valid().to_numpy() & labels.is_valid().to_numpy()
    if gaps:
        whole = pa.array(kept)
        _refuse_lost(labels, labels.filter(whole), name)
        column = column.filter(whole)
        labels = labels.filter(whole)
        if not kept.any():
            raise DataError(
                f"every row of {name} has a missing cell; fill some, or remove the columns that "
                "lack most"
            )
        sizes = Sizes(*sizes_left(kept, sizes.valid, sizes.test, name))
    rows = [f"row {i + 1} of {name}" for i in np.flatnonzero(kept)]
    y, names = _labels(labels, _names(table.schema, label) or classes)
    contents = (value.as_py() for value in column)
    x, mode, notices = images.from_records(
        contents, rows, options["mode"], options["resize"], options["budget"]
    )
    schema = Schema("classification", tuple(x.shape[1:]), names, mode=mode)
    return Raw(x, y, schema, sizes.test, sizes.valid, gaps, notices=notices)


def _refuse_gaps(gaps: dict[str, int], name: str) -> None:
    mistakes = []
    for title, n in gaps.items():
        them = "it" if n == 1 else "them"
        mistakes.append(
            f"column {title!r} of {name} lacks {count(n, 'cell')}; fill {them}, or use --missing "
            "drop"
        )
    if mistakes:
        raise DataError(*mistakes)


def _refuse_lost(labels: Any, kept: Any, name: str) -> None:
    lost = set(labels.drop_null().to_pylist()) - set(kept.to_pylist())
    if lost:
        raise DataError(
            f"no row of the class {some(map(repr, sorted(lost)))} in {name} is whole; fill its "
            "missing cells"
        )


def _is_picture(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return "bytes" in fields and _is_picture(fields["bytes"])
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _names(schema: Any, label: str) -> tuple[str, ...]:
    """Return class names that the hub's library left in the file."""
    try:
        features = parse_json((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_list else ()


def _named(numbers: pd.Series[Any], names: tuple[str, ...]) -> list[str | None]:
    """Return classes by their names; none for gaps and for −1, with which the hub marks them."""
    return [names[int(k)] if 0 <= k < len(names) else None for k in numbers.fillna(-1)]


def _labels(column: Any, names: tuple[str, ...]) -> tuple[Array, tuple[str, ...]]:
    values = column.to_pylist()
    if all(isinstance(value, int) for value in values):
        y = np.array(values, np.int64)
        return y, names or tuple(str(k) for k in range(int(y.max()) + 1))
    distinct = sorted({str(value) for value in values})
    numbers = {value: k for k, value in enumerate(distinct)}
    y = np.array([numbers[str(value)] for value in values], np.int64)
    return y, tuple(distinct)
