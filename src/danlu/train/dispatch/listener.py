"""Who watches a training: the terminal, a notebook, a test. Nobody, by default."""

from __future__ import annotations

from typing import Any

from danlu.runs import Run, Study
from danlu.train.dispatch.plan import Plan


class Listener:
    """Called by the engine; every method may be left as it is."""

    interval = 0.1
    """Seconds between two calls of `step`."""

    def start(self, run: Run, steps: int, done: int) -> None:
        """Training begins: `steps` in all, `done` before (after a resume)."""

    def step(self, done: int, loss: float, accuracy: float) -> None:
        """Note now and then: steps done, mean loss and accuracy of the epoch so far."""

    def epoch(self, run: Run, row: dict[str, Any]) -> None:
        """Take an epoch's row of the history."""

    def end(self, run: Run) -> None:
        """Training is over, one way or another."""


class StudyListener:
    """Who watches a study; every method may be left as it is."""

    interval = 0.1
    """Seconds between two calls of `progress`."""

    def start(self, study: Study, steps: int, done: int) -> None:
        """Training begins: steps of all members together, and how many were done before."""

    def plan(self, members: list[int], plan: Plan) -> None:
        """Note how a group of members will be trained, why, and what each way would cost."""

    def progress(self, done: int) -> None:
        """Note now and then: steps done, of all members together."""

    def heartbeat(self) -> None:
        """Note that the study goes on; called also while no network reports anything."""

    def ended(self, member: int, status: str, result: dict[str, Any]) -> None:
        """Take a member that is finished or has diverged."""

    def end(self, study: Study) -> None:
        """Training is over, one way or another."""
