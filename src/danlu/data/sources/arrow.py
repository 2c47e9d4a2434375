"""Arrow tables in files, Feather and Parquet, read in parts: a small file may hold a huge table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from danlu.data.reading_memory import check_fits, check_table_fits, check_width
from danlu.errors import DataError, reason_of

if TYPE_CHECKING:
    import pandas as pd

ARROW = (".arrow", ".feather", ".ipc")
_FIRST_ROWS, _ROWS_AT_ONCE = 256, 1 << 17
_BYTES_AT_ONCE = 1 << 25
_PER_VALUE = 8  # bytes that a value within a list takes


def read_arrow(path: Path) -> Any:
    """Return the Arrow table of a file, Feather or Parquet."""
    import pyarrow as pa

    try:
        if path.suffix.lower() == ".parquet":
            table = _read_parquet(path)
            table.validate(full=True)
            return table
        table = _read_feather(path)
        table.validate(full=True)
        return table
    except (pa.ArrowException, OSError) as e:
        kind = "Parquet" if path.suffix.lower() == ".parquet" else "Arrow"
        raise DataError(f"{path.name} cannot be read as {kind}: {reason_of(e)}") from e


def frame_of_arrow(table: Any) -> pd.DataFrame:
    """Return an Arrow table as a data frame."""
    frame: pd.DataFrame
    try:
        frame = table.to_pandas()
    except Exception:  # what a file notes for pandas may be wrong in every way
        frame = table.replace_schema_metadata(None).to_pandas()
    return frame


def _read_parquet(path: Path) -> Any:
    """Return the table of a Parquet file, read in parts: a small one may hold many equal rows."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        facts, names = file.metadata, file.schema_arrow.names
        _check_size(facts.num_rows, len(names), 0, path.name)
        check_fits(_PER_VALUE * _values(facts), path.name)  # of lists there may be more than rows
        step = _rows_at_once(file)
        parts = []
        size = 0
        for part in file.iter_batches(step):
            parts.append(part)
            size += sum(map(_expanded, part.columns))
            _check_size(facts.num_rows, len(names), size, path.name, least=True)
        return pa.Table.from_batches(parts, file.schema_arrow)


def _read_feather(path: Path) -> Any:
    """Return the table of an Arrow file, batch by batch."""
    import pyarrow as pa
    import pyarrow.feather as feather

    with pa.memory_map(str(path)) as source:
        try:
            file = pa.ipc.open_file(source)
            schema = file.schema
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
        except pa.ArrowInvalid:
            source.seek(0)
            try:
                batches = pa.ipc.open_stream(source)  # written without an index at its end
                schema = batches.schema
            except pa.ArrowInvalid:
                return feather.read_table(path)  # of the first version, which packs nothing
        parts = []
        rows = size = 0
        for part in batches:
            parts.append(part)
            rows += part.num_rows
            size += sum(map(_expanded, part.columns))
            _check_size(rows, part.num_columns, size, path.name, least=True)
        return pa.Table.from_batches(parts, schema)


def _groups(facts: Any) -> list[Any]:
    return [facts.row_group(i) for i in range(facts.num_row_groups)]


def _unpacked(group: Any) -> int:
    return sum(group.column(k).total_uncompressed_size for k in range(group.num_columns))


def _values(facts: Any) -> int:
    groups = _groups(facts)
    return sum(g.column(k).num_values for g in groups for k in range(g.num_columns))


def _rows_at_once(file: Any) -> int:
    """Return how many rows take little memory, told by the largest of the first ones."""
    # No cell is larger than all that its column has, packed as a dictionary or not.
    largest = max(map(_unpacked, _groups(file.metadata)), default=1)
    few = max(1, min(_FIRST_ROWS, int(_BYTES_AT_ONCE / max(1, largest))))
    first = next(file.iter_batches(few), None)
    if first is None or not len(first):
        return _ROWS_AT_ONCE
    per_row = sum(map(_expanded, first.columns)) / len(first)
    return max(1, min(_ROWS_AT_ONCE, int(_BYTES_AT_ONCE / max(1, per_row))))


def _expanded(array: Any) -> int:
    """Return how many bytes an Arrow array takes with each of its values written out."""
    import pyarrow as pa

    if isinstance(array, pa.DictionaryArray) and len(array.dictionary):
        return int(len(array) * array.dictionary.nbytes / len(array.dictionary))
    return int(array.nbytes)


def _check_size(rows: int, width: int, size: int, name: str, least: bool = False) -> None:
    """Raise DataError for a table that is too large or too wide; size: of its buffers, in bytes."""
    check_width(width, name)
    check_table_fits(rows * width, size, name, least)
