"""Watching a study: a live line in a terminal, some lines in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

from danlu.errors import count
from danlu.metrics import higher_is_better, title_of
from danlu.report.terminal.console import get_console, warn_of_emulation
from danlu.report.terminal.lines import tell
from danlu.report.terminal.progress import time_left
from danlu.runs import Study
from danlu.runs.members import DIVERGED
from danlu.train import StudyListener
from danlu.train.dispatch.plan import Plan

_LOG_LINES = 20  # about, in all
_LINES_APART = 1.0  # seconds


class _Counting(StudyListener):
    """Knows how many members are done, the best so far, and how long the rest will take."""

    explain = False
    """Whether to say how each group is trained."""

    def start(self, study: Study, steps: int, done: int) -> None:
        """Begin counting."""
        self.study = study
        self.steps = steps
        self.first = done
        self.done = done
        self.began = time.perf_counter()
        info = study.info
        self.members = len(study)
        if not info.get("storage"):
            # Of a search that has its storage alone it is known how many trials are to come, and
            # they are taken to be as long.
            to_come = info.get("trials", 0) * info.get("rounds", 1)
            self.members = max(len(study), to_come)
        steps_of_all = steps * self.members
        self.steps_expected = steps_of_all // max(1, len(study))
        self.ready = len(study.members)
        self.diverged = 0
        self.metric = info.get("metric") or f"valid_{study.metric}"
        self.best: float | None = None
        warn_of_emulation(study.recipes[:1], info["environment"]["device"])
        for member in study.members.values():
            self._keep_best(member.result)

    def plan(self, members: list[int], plan: Plan) -> None:
        """Say how a group is trained, when asked for, or when it is not as one would expect."""
        # A plan that is as one would expect is no news.
        if self.explain or plan.is_surprising:
            networks = count(len(members), "network")
            self.say(f"{networks} {plan.description}: {plan.reason}")
        if not self.explain:
            return
        measured = plan.seconds_per_step
        fastest_first = sorted(measured, key=lambda way: measured[way])
        for way in fastest_first:
            microseconds = 1e6 * measured[way]
            self.say(f"  {microseconds:8.0f} µs a step of one network  {way}")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        tell(line)

    def progress(self, done: int) -> None:
        """Keep the steps of all members together."""
        self.done = done

    def ended(self, member: int, status: str, result: dict[str, Any]) -> None:
        """Count, and keep the best."""
        self.ready += 1
        self.diverged += status == DIVERGED
        self._keep_best(result)

    def _keep_best(self, result: dict[str, Any]) -> None:
        value = result.get(self.metric)
        if value is None:
            return
        if self.best is None:
            self.best = value
        elif higher_is_better(self.metric):
            self.best = max(self.best, value)
        else:
            self.best = min(self.best, value)

    def line(self) -> str:
        """Return members done, best so far, time left."""
        parts = [f"{self.ready}/{self.members} trained"]
        if self.best is not None:
            name = title_of(self.metric)
            parts.append(f"best {name} {self.best:.4f}")
        if self.diverged:
            parts.append(f"{self.diverged} diverged")
        taken = self.done - self.first
        # Members that stop early make the estimate too long, never negative.
        steps_left = max(0, self.steps_expected - self.done)
        left = time_left(self.began, taken, steps_left)
        parts.append(f"{left} left")
        return "  ".join(parts)


class LogProgress(_Counting):
    """About twenty lines in all, and none within a second of the last."""

    def start(self, study: Study, steps: int, done: int) -> None:
        """Begin counting."""
        super().start(study, steps, done)
        self.lines = 0
        self.last_line = self.began

    def progress(self, done: int) -> None:
        """Print a line whenever another twentieth is done."""
        super().progress(done)
        due = _LOG_LINES * done // max(1, self.steps_expected)
        now = time.perf_counter()
        if due > self.lines and now > self.last_line + _LINES_APART:
            self.lines, self.last_line = due, now
            self.say(self.line())


class TerminalProgress(_Counting):
    """A bar and the figures on one live line."""

    def start(self, study: Study, steps: int, done: int) -> None:
        """Show the line."""
        from rich.live import Live

        super().start(study, steps, done)
        self.live = Live(
            console=get_console(),
            get_renderable=self._draw,
            auto_refresh=False,
            transient=True,
        )
        self.live.start()

    def progress(self, done: int) -> None:
        """Redraw: here and not from a thread, of which a forked worker would get a broken copy."""
        super().progress(done)
        self.live.refresh()

    def say(self, line: str) -> None:
        """Print a line above the live one."""
        self.live.console.print(line, markup=False)

    def end(self, study: Study) -> None:
        """Take the live line away."""
        self.live.stop()

    def _draw(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        done = min(self.done, self.steps_expected)
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(self.steps_expected, done, width=24)
        line.add_row(bar, self.line())
        return line


def study_progress(explain: bool = False) -> StudyListener:
    """Return what fits where we run. explain: also say how each group is trained, and why."""
    listener: _Counting = LogProgress()
    if sys.stdout.isatty():
        listener = TerminalProgress()
    listener.explain = explain
    return listener
