"""Calm tables and lines in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderHook
from rich.segment import Segment
from rich.table import Table

from danlu.errors import printable

if TYPE_CHECKING:
    from danlu.recipe import Recipe

_UNLIMITED = 10_000  # characters: a pipe has no width, so nothing is cut or wrapped there


def get_console(error: bool = False) -> Console:
    """Return a console for standard output, or standard error, as it is now."""
    # Asked at every call: a program may put another file in its place.
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else _UNLIMITED
    console = Console(highlight=False, width=width, stderr=error)
    console.push_render_hook(_WithoutControls())
    return console


class _WithoutControls(RenderHook):
    """Keeps what names and texts hold from being obeyed by the terminal."""

    def process_renderables(self, renderables: list[Any]) -> list[Any]:
        """Return what is printed, so that it is cleaned when it is drawn."""
        return [_Cleaned(renderable) for renderable in renderables]


class _Cleaned:
    def __init__(self, renderable: Any) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: Console, options: Any) -> Iterator[Segment]:
        for segment in console.render(self.renderable, options):
            if segment.control:  # Rich's own, such as those of a live line
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Print a table with names to the left, figures to the right."""
    grid = Table(
        title=title,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for k, name in enumerate(head):
        is_name = k == 0
        grid.add_column(name, justify="left" if is_name else "right", overflow="fold")
    for row in rows:
        grid.add_row(*map(escape, row))
    get_console().print(grid)


def escape(cell: Any) -> str:
    """Return a cell in which brackets are no markup."""
    return str(cell).replace("[", "\\[")


def shortened(text: str, most: int = 80) -> str:
    """Return a text as a cell of a table, of so many characters at most."""
    if len(text) <= most:
        return text
    return f"{text[: most - 1]}…"


def say(line: str) -> None:
    """Print a plain line; long ones wrap."""
    get_console().print(line, markup=False)


def warn_of_emulation(recipes: Iterable[Recipe], device: str) -> None:
    """Say that a training will be slow, where the processor has to emulate its arithmetic."""
    from danlu.train.dispatch.device import is_emulated

    if any(is_emulated(recipe, device) for recipe in recipes):
        say(
            "`dtype` is bf16-mixed, but this processor has no instructions for bfloat16: "
            "float32 is many times as fast here"
        )
