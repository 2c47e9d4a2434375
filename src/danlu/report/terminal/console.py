"""Runs and recipes as calm tables in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from danlu.recipe import Recipe

# A pipe has no width: nothing is cut or wrapped there.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Names to the left, figures to the right."""
    t = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
    for k, name in enumerate(head):
        t.add_column(name, justify="left" if k == 0 else "right", overflow="fold")
    for row in rows:
        t.add_row(*(_escape(c) for c in row))
    console.print(t)


def _escape(cell: Any) -> str:
    return str(cell).replace("[", "\\[")


def shortened(text: str, most: int = 80) -> str:
    """A text as a cell of a table, of so many characters at most."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def say(line: str) -> None:
    """A plain line; long ones wrap."""
    console.print(line, markup=False)


def warn_of_emulation(recipes: Iterable[Recipe], device: str) -> None:
    """Say that a training will be slow, where its arithmetic is not the processor's."""
    from danlu.train.dispatch.preflight import is_emulated

    if any(is_emulated(r, device) for r in recipes):
        say(
            "`dtype` is bf16-mixed, but this processor has no instructions for bfloat16: float32 is many times as fast here"
        )
