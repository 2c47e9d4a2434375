"""Watching a training: a live line with curves in a terminal, rows in a log, a growing figure in a notebook."""

from __future__ import annotations

import time
from typing import Any

from danlu.errors import clock
from danlu.figures import curves
from danlu.report.terminal.console import warn_of_emulation
from danlu.runs import Run
from danlu.train import Listener


class _Timed(Listener):
    """Knows how far the training is and how long the rest will take."""

    def start(self, run: Run, steps: int, done: int) -> None:
        self.run, self.steps, self.first, self.began = run, steps, done, time.perf_counter()
        self.done, self.loss, self.accuracy = done, float("nan"), float("nan")
        self.rows: list[dict[str, Any]] = run.history
        self.epochs = run.recipe.epochs
        self.percent = run.metric == "accuracy"
        warn_of_emulation([run.recipe], run.info["environment"]["device"])

    def step(self, done: int, loss: float, accuracy: float) -> None:
        self.done, self.loss, self.accuracy = done, loss, accuracy

    def epoch(self, run: Run, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.done = row["step"]

    def left(self) -> str:
        """Time left at the pace so far."""
        taken = self.done - self.first
        return (
            clock((time.perf_counter() - self.began) / taken * (self.steps - self.done))
            if taken
            else "–:––"
        )

    def value(self, accuracy: float | None) -> str:
        """An accuracy in per cent, or R²."""
        return (
            "–"
            if accuracy is None
            else f"{100 * accuracy:.1f} %"
            if self.percent
            else f"R² {accuracy:.3f}"
        )

    def line(self) -> str:
        """Epoch, loss, accuracy, time left."""
        epoch = min(self.epochs, len(self.rows) + 1)
        return f"epoch {epoch}/{self.epochs}  loss {self.loss:.4f}  {self.value(self.accuracy)}  {self.left()} left"


class LogProgress(_Timed):
    """One line per epoch (at most about twenty in all), for pipes and logs."""

    def epoch(self, run: Run, row: dict[str, Any]) -> None:
        super().epoch(run, row)
        k = row["epoch"]
        if k == self.epochs or k % -(-self.epochs // 20) == 0 or k == 1:
            metric = run.metric
            valid = (
                f"  valid {row['valid_loss']:.4f} {self.value(row.get(f'valid_{metric}'))}"
                if "valid_loss" in row
                else ""
            )
            trained = self.value(row[f"train_{metric}"])
            print(
                f"epoch {k}/{self.epochs}  train {row['train_loss']:.4f} {trained}{valid}  {self.left()} left",
                flush=True,
            )


class TerminalProgress(_Timed):
    """A bar, figures and time left on one live line, under curves that grow with every epoch."""

    def start(self, run: Run, steps: int, done: int) -> None:
        from rich.live import Live

        super().start(run, steps, done)
        self.plot: Any = ""
        self.drawn = 0
        self.live = Live(
            console=_console(), get_renderable=self._draw, refresh_per_second=8, transient=True
        )
        self.live.start()

    def end(self, run: Run) -> None:
        self.live.stop()
        if self.rows:
            self.live.console.print(self._curves())

    def _curves(self) -> Any:
        """The chart of the rows so far; drawn only when the screen is, and only when a row is new."""
        if len(self.rows) != self.drawn:
            self.drawn = len(self.rows)
            self.plot = terminal_curves(self.rows, self.run.metric, self.live.console.width)
        return self.plot

    def _draw(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        line = Table.grid(padding=(0, 1))
        line.add_row(ProgressBar(self.steps, self.done, width=24), self.line())
        return Group(self._curves(), line) if self.rows and self.live.console.height > 20 else line


class NotebookProgress(_Timed):
    """The figure of the curves, redrawn after every epoch."""

    def start(self, run: Run, steps: int, done: int) -> None:
        from IPython.display import display

        super().start(run, steps, done)
        self.handle = display({"text/plain": "training…"}, raw=True, display_id=True)

    def epoch(self, run: Run, row: dict[str, Any]) -> None:
        super().epoch(run, row)
        said = f"epoch {row['epoch']}/{self.epochs}, {self.left()} left"
        bundle = {
            "application/vnd.plotly.v1+json": curves.figure(self.rows, run.metric),
            "text/plain": said,
        }
        self.handle.update(bundle, raw=True)


def _console() -> Any:
    from danlu.report.terminal.console import console

    return console


def terminal_curves(rows: list[dict[str, Any]], metric: str, width: int) -> Any:
    """Loss and accuracy (or R²) by epoch, side by side, as characters."""
    from danlu.report.terminal.braille import beside, chart

    half = min(width, 120) // 2
    charts: list[Any] = []
    for quantity in ("loss", metric):
        series = []
        for part, label, colour in (
            ("train", "training", "magenta"),
            ("valid", "validation", "yellow"),
        ):
            points = [
                (r["epoch"], r[f"{part}_{quantity}"])
                for r in rows
                if r.get(f"{part}_{quantity}") is not None
            ]
            series += [(label, colour, points)] if points else []
        charts.append(chart(quantity, series, half - 2))
    return beside(charts[0], charts[1], half)


def best_progress() -> Listener:
    """What fits where we run: a notebook, a terminal, or a log."""
    import sys

    ipython = sys.modules.get("IPython")
    if ipython and getattr(ipython.get_ipython(), "kernel", None) is not None:
        return NotebookProgress()
    return TerminalProgress() if sys.stdout.isatty() else LogProgress()
