"""The fields of a recipe in the terminal."""

from __future__ import annotations

from rich.table import Table

from danlu.report.tables.fields import field_rows
from danlu.report.terminal.console import escape, get_console


def show_fields() -> None:
    """Print every field with its default and what it does."""
    # Its own table: the columns of texts are all on the left.
    table = Table(
        "field",
        "default",
        "what it does",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for row in field_rows():
        table.add_row(row.path, row.default, escape(row.description))
    get_console().print(table)
