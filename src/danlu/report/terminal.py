"""Runs and recipes as calm tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Names to the left, figures to the right."""
    t = Table(*head, title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
    for k, column in enumerate(t.columns):
        column.justify = "left" if k == 0 else "right"
    for row in rows:
        t.add_row(*(_escape(c) for c in row))
    console.print(t)


def _escape(cell: Any) -> str:
    return str(cell).replace("[", "\\[")


def say(line: str) -> None:
    """A plain line; long ones wrap."""
    console.print(line, markup=False, soft_wrap=not console.is_terminal)
