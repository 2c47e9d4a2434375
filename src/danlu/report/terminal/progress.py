"""Watching a training: a live line with curves in a terminal, rows in a log, a growing figure."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from danlu.data.parts import TITLES
from danlu.errors import clock
from danlu.figures import curves
from danlu.report.terminal.console import get_console, warn_of_emulation
from danlu.report.terminal.lines import tell
from danlu.runs import Run
from danlu.train import Listener

_LOG_LINES = 20  # about, in all
_LEAST_HEIGHT = 20  # lines of a terminal that has room for curves
_COLOURS = {"train": "magenta", "valid": "yellow"}
UNKNOWN_TIME = "–:––"


def time_left(began: float, taken: int, left: int) -> str:
    """Return the time that `left` steps will take at the pace of those taken."""
    if not taken:
        return UNKNOWN_TIME
    seconds_per_step = (time.perf_counter() - began) / taken
    return clock(seconds_per_step * left)


class _Timed(Listener):
    """Knows how far the training is and how long the rest will take."""

    def start(self, run: Run, steps: int, done: int) -> None:
        """Begin timing."""
        self.run = run
        self.steps = steps
        self.first = done
        self.done = done
        self.began = time.perf_counter()
        self.loss = float("nan")
        self.accuracy = float("nan")
        self.rows: list[dict[str, Any]] = run.history
        self.epochs = run.recipe.epochs
        self.percent = run.metric == "accuracy"
        warn_of_emulation([run.recipe], run.info["environment"]["device"])

    def step(self, done: int, loss: float, accuracy: float) -> None:
        """Keep the figures."""
        self.done = done
        self.loss = loss
        self.accuracy = accuracy

    def epoch(self, run: Run, row: dict[str, Any]) -> None:
        """Keep the row."""
        self.rows.append(row)
        self.done = row["step"]

    def left(self) -> str:
        """Return the time left at the pace so far."""
        taken = self.done - self.first
        to_go = self.steps - self.done
        return time_left(self.began, taken, to_go)

    def value(self, accuracy: float | None) -> str:
        """Return an accuracy in per cent, or R²."""
        if accuracy is None:
            return "–"
        if self.percent:
            return f"{100 * accuracy:.1f} %"
        return f"R² {accuracy:.3f}"

    def line(self) -> str:
        """Return epoch, loss, accuracy, time left."""
        epoch = min(self.epochs, len(self.rows) + 1)
        accuracy = self.value(self.accuracy)
        parts = [
            f"epoch {epoch}/{self.epochs}",
            f"loss {self.loss:.4f}",
            accuracy,
            f"{self.left()} left",
        ]
        return "  ".join(parts)


class LogProgress(_Timed):
    """One line per epoch (at most about twenty in all), for pipes and logs."""

    def epoch(self, run: Run, row: dict[str, Any]) -> None:
        """Print a line, if it is time for one."""
        super().epoch(run, row)
        epoch = row["epoch"]
        every = math.ceil(self.epochs / _LOG_LINES)
        is_first_or_last = epoch in (1, self.epochs)
        if not is_first_or_last and epoch % every:
            return
        pieces = [f"epoch {epoch}/{self.epochs}"]
        for part in ("train", "valid"):
            if f"{part}_loss" in row:
                pieces.append(f"{part} {self._figures(row, part)}")
        pieces.append(f"{self.left()} left")
        tell("  ".join(pieces))

    def _figures(self, row: dict[str, Any], part: str) -> str:
        loss = row[f"{part}_loss"]
        metric = self.run.metric
        accuracy = self.value(row.get(f"{part}_{metric}"))
        return f"{loss:.4f} {accuracy}"


class TerminalProgress(_Timed):
    """A bar, figures and time left on one live line, under curves that grow with every epoch."""

    def start(self, run: Run, steps: int, done: int) -> None:
        """Show the live line."""
        from rich.live import Live

        super().start(run, steps, done)
        self.plot: Any = ""
        self.rows_drawn = 0
        self.live = Live(
            console=get_console(),
            get_renderable=self._draw,
            refresh_per_second=8,
            transient=True,
        )
        self.live.start()

    def end(self, run: Run) -> None:
        """Leave the curves in place of the live line."""
        self.live.stop()
        if self.rows:
            self.live.console.print(self._curves())

    def _curves(self) -> Any:
        """Return the chart of the rows so far, drawn anew only when there is a new row."""
        if len(self.rows) != self.rows_drawn:
            self.rows_drawn = len(self.rows)
            width = self.live.console.width
            self.plot = terminal_curves(self.rows, self.run.metric, width)
        return self.plot

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(self.steps, self.done, width=24)
        line.add_row(bar, self.line())
        # `Live` draws once while it is made, when there are no rows yet.
        if not self.rows or self.live.console.height <= _LEAST_HEIGHT:
            return line
        return Group(self._curves(), line)


class NotebookProgress(_Timed):
    """The figure of the curves, redrawn after every epoch."""

    def start(self, run: Run, steps: int, done: int) -> None:
        """Show a place for the figure."""
        from IPython.display import display

        super().start(run, steps, done)
        self.handle = display({"text/plain": "training…"}, raw=True, display_id=True)

    def epoch(self, run: Run, row: dict[str, Any]) -> None:
        """Redraw the figure."""
        super().epoch(run, row)
        epoch = row["epoch"]
        text = f"epoch {epoch}/{self.epochs}, {self.left()} left"
        figure = curves.figure(self.rows, run.metric)
        bundle = {"application/vnd.plotly.v1+json": figure, "text/plain": text}
        self.handle.update(bundle, raw=True)


def terminal_curves(rows: list[dict[str, Any]], metric: str, width: int) -> Any:
    """Return loss and accuracy (or R²) by epoch, side by side, as characters."""
    from danlu.report.terminal.braille import Series, chart, side_by_side

    # On wide screens curves would only be flatter.
    half = min(width, 120) // 2
    charts = []
    for quantity in ("loss", metric):
        series = []
        for part, colour in _COLOURS.items():
            name = f"{part}_{quantity}"
            points = []
            for row in rows:
                if row.get(name) is not None:
                    points.append((row["epoch"], row[name]))
            if points:
                series.append(Series(TITLES[part], colour, points))
        charts.append(chart(quantity, series, half - 2))
    left, right = charts
    return side_by_side(left, right, half)


def best_progress() -> Listener:
    """Return what fits where we run: a notebook, a terminal, or a log."""
    ipython = sys.modules.get("IPython")
    if ipython and getattr(ipython.get_ipython(), "kernel", None) is not None:
        return NotebookProgress()
    if sys.stdout.isatty():
        return TerminalProgress()
    return LogProgress()
