"""Watching a study: a live line in a terminal, some lines in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

from danlu.errors import clock, count
from danlu.report.terminal.console import warn_of_emulation
from danlu.runs import Study, higher_is_better
from danlu.train import StudyListener


class _Counting(StudyListener):
    """Knows how many members are done, the best so far, and how long the rest will take."""

    explain = False

    def start(self, study: Study, steps: int, done: int) -> None:
        """Begin counting."""
        self.study, self.steps, self.first, self.done, self.began = (
            study,
            steps,
            done,
            done,
            time.perf_counter(),
        )
        info = study.info
        batches = (
            0 if info.get("storage") else info.get("trials", 0) * info.get("rounds", 1)
        )  # of a search that has it alone
        self.members, self.ready, self.diverged = max(len(study), batches), len(study.members), 0
        self.all = (
            steps * self.members // max(1, len(study))
        )  # later trials are taken to be as long
        self.metric = study.info.get("metric") or f"valid_{study.metric}"
        self.best: float | None = None
        warn_of_emulation(study.recipes[:1], info["environment"]["device"])
        for told in study.members.values():
            self._see(told.get("result", {}))

    def plan(
        self, members: list[int], way: str, why: str, paces: dict[str, float], noted: bool
    ) -> None:
        """Say how a group is trained, when asked for, or when it is not as one would expect."""
        if self.explain or noted:
            self.say(f"{count(len(members), 'network')} {way}: {why}")
        if self.explain:
            for label, pace in sorted(paces.items(), key=lambda p: p[1]):
                self.say(f"  {1e6 * pace:8.0f} µs a step of one network  {label}")

    def say(self, line: str) -> None:
        """A line that stays."""
        print(line, flush=True)

    def progress(self, done: int) -> None:
        """Steps of all members together."""
        self.done = done

    def ended(self, member: int, status: str, result: dict[str, Any]) -> None:
        """Count, and keep the best."""
        self.ready += 1
        self.diverged += status == "diverged"
        self._see(result)

    def _see(self, result: dict[str, Any]) -> None:
        value = result.get(self.metric)
        if value is not None:
            better = max if higher_is_better(self.metric) else min
            self.best = value if self.best is None else better(self.best, value)

    def line(self) -> str:
        """Members done, best so far, time left."""
        taken = self.done - self.first
        left = (
            clock((time.perf_counter() - self.began) / taken * max(0, self.all - self.done))
            if taken
            else "–:––"
        )
        best = (
            "" if self.best is None else f"  best {self.metric.replace('_', ' ')} {self.best:.4f}"
        )
        broke = f"  {self.diverged} diverged" if self.diverged else ""
        return f"{self.ready}/{self.members} trained{best}{broke}  {left} left"


class LogProgress(_Counting):
    """About twenty lines in all."""

    def start(self, study: Study, steps: int, done: int) -> None:
        """Begin counting."""
        super().start(study, steps, done)
        self.said = 0

    def progress(self, done: int) -> None:
        """A line whenever another twentieth is done."""
        super().progress(done)
        part = 20 * done // max(1, self.all)
        if part > self.said:
            self.said = part
            self.say(self.line())


class TerminalProgress(_Counting):
    """A bar and the figures on one live line."""

    def start(self, study: Study, steps: int, done: int) -> None:
        """Show the line."""
        from rich.live import Live

        from danlu.report.terminal.console import console

        super().start(study, steps, done)
        self.live = Live(
            console=console, get_renderable=self._draw, auto_refresh=False, transient=True
        )
        self.live.start()

    def progress(self, done: int) -> None:
        """Redraw: here and not from a thread, of which a forked worker would get a broken copy."""
        super().progress(done)
        self.live.refresh()

    def say(self, line: str) -> None:
        """Above the live line."""
        self.live.console.print(line, markup=False)

    def end(self, study: Study) -> None:
        """Take the line away."""
        self.live.stop()

    def _draw(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        line = Table.grid(padding=(0, 1))
        line.add_row(ProgressBar(self.all, min(self.done, self.all), width=24), self.line())
        return line


def study_progress(explain: bool = False) -> StudyListener:
    """What fits where we run. explain: also say how each group is trained, and why."""
    listener = TerminalProgress() if sys.stdout.isatty() else LogProgress()
    listener.explain = explain
    return listener
