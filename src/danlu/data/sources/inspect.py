"""Looking at a table that cannot be learnt from yet: what its columns hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.data.raw import ColumnNote
from danlu.data.reading_memory import reading_within
from danlu.data.sources import formats
from danlu.data.sources.arrow import ARROW
from danlu.data.sources.delimited import with_single_names
from danlu.data.sources.layout import is_json, layout_of
from danlu.data.sources.opened import open_text, suffix_of
from danlu.data.sources.options import checked
from danlu.data.tables.roles import OVERRIDES, Overrides, read_columns, uses_decimal_comma
from danlu.data.tables.table import note_of
from danlu.errors import DataError


@dataclass(frozen=True)
class Inspection:
    """How many rows a table has, what its columns were taken for, and how it was read."""

    rows: int
    columns: tuple[ColumnNote, ...]
    notices: tuple[str, ...]


def inspect_table(source: str, given: Mapping[str, Any]) -> Inspection | None:
    """Return what the columns of a table's file hold; None for a source of another kind.

    given: the options of `load`.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        return None
    try:
        options = checked({"memory": None, **given})
        with reading_within(options["budget"]):
            table = _table_of(path, options)
    except DataError:
        return None
    return None if table is None else _inspection(table, options)


def _inspection(table: formats.Table, options: Mapping[str, Any]) -> Inspection:
    frame, renamed = with_single_names(table.frame)
    known = {role: tuple(options.get(role) or ()) for role in OVERRIDES}
    there = {role: tuple(c for c in named if c in frame) for role, named in known.items()}
    comma_is_decimal = table.comma_is_decimal or uses_decimal_comma(frame)
    readings = read_columns(frame, None, Overrides(**there), comma_is_decimal)
    notices = [*table.notices, *renamed]
    for reading in readings:
        notices += reading.notices
    return Inspection(len(frame), tuple(map(note_of, readings)), tuple(notices))


def _table_of(path: Path, options: Mapping[str, Any]) -> formats.Table | None:
    suffix = suffix_of(path)
    if suffix in (*formats.EXCEL, *ARROW, ".parquet"):
        return formats.read_table(path, options)
    opened = open_text(path, options.get("encoding"))
    if opened.suffix in formats.JSON or is_json(opened.text, path.name):
        return formats.read_json(opened.text, path.name)
    if layout_of(opened.text, opened.suffix, {**options, "task": None}) != "table":
        return None
    return formats.read_text_table(opened.text, path.name, options, opened.notices)
