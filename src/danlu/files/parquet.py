"""Tables in Parquet files: no more rows than fit the memory, and columns of plain kinds."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from danlu.errors import RunError, reason_of
from danlu.memory import as_bytes, free_memory

_SHARE = 0.5  # of the free memory, that a table may take
_BYTES_OF_CELL = 16


def to_parquet(table: Any) -> bytes:
    """Return an Arrow table as the content of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def parse_parquet(content: bytes, file: Path) -> Any:
    """Return the Arrow table in a file's content.

    Raises RunError where it is damaged, too large for the memory, or has columns of other kinds
    than numbers, texts and lists of numbers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(BytesIO(content))
        about = parquet.metadata
        # A small file may promise billions of equal rows.
        needed = about.num_rows * max(1, about.num_columns) * _BYTES_OF_CELL
        room = free_memory()
        if needed > _SHARE * room:
            raise RunError(
                f"{file} has a table of {as_bytes(needed)}, and this machine has {as_bytes(room)} "
                "of memory left"
            )
        table = parquet.read()
    except (pa.ArrowException, OSError, ValueError) as e:
        raise RunError(f"{file} is damaged: it is not a Parquet file ({reason_of(e)})") from e
    for column in table.schema:
        if not _is_plain(column.type):
            raise RunError(f"{file} is foreign: `{column.name}` in it is {column.type}")
    return table


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_list(kind):
        kind = kind.value_type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return bool(is_number or pa.types.is_string(kind) or pa.types.is_null(kind))
