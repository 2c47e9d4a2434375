"""Files of runs and studies: written whole or not at all, read with suspicion."""

from danlu.files.json_values import as_json, parse_json, with_nan, with_nulls
from danlu.files.lines import append_lines, read_lines, sound_lines, write_lines
from danlu.files.parquet import parse_parquet, to_parquet
from danlu.files.reading import (
    check_file,
    check_folder,
    decoded,
    is_file,
    open_file,
    parse_toml,
    read_bytes,
    read_json,
    read_text,
    refuse_links,
)
from danlu.files.sealed import Sealed, digest_of_file
from danlu.files.tensors import (
    digest_of,
    pack_tensors,
    parse_tensors,
    read_row,
    read_tensors,
    write_tensors,
)
from danlu.files.writing import remove, storing, subfolder, write, write_json, writing

__all__ = [
    "Sealed",
    "append_lines",
    "as_json",
    "check_file",
    "check_folder",
    "decoded",
    "digest_of",
    "digest_of_file",
    "is_file",
    "open_file",
    "pack_tensors",
    "parse_json",
    "parse_parquet",
    "parse_tensors",
    "parse_toml",
    "read_bytes",
    "read_json",
    "read_lines",
    "read_row",
    "read_tensors",
    "read_text",
    "refuse_links",
    "remove",
    "sound_lines",
    "storing",
    "subfolder",
    "to_parquet",
    "with_nan",
    "with_nulls",
    "write",
    "write_json",
    "write_lines",
    "write_tensors",
    "writing",
]
