"""Heartbeats to a shared storage, for as long as a search trains."""

from __future__ import annotations

from typing import Any

from danlu.runs import Study
from danlu.study.trials import Trials
from danlu.train import StudyListener
from danlu.train.dispatch.plan import Plan


class WithHeartbeat(StudyListener):
    """Passes everything on, and sends the storage heartbeats."""

    def __init__(self, other: StudyListener, trials: Trials) -> None:
        self.other, self.trials, self.interval = other, trials, other.interval

    def start(self, study: Study, steps: int, done: int) -> None:
        self.other.start(study, steps, done)

    def plan(self, members: list[int], plan: Plan) -> None:
        self.other.plan(members, plan)

    def progress(self, done: int) -> None:
        self.other.progress(done)
        self.heartbeat()

    def heartbeat(self) -> None:
        self.other.heartbeat()
        self.trials.heartbeat()

    def ended(self, member: int, status: str, result: dict[str, Any]) -> None:
        self.other.ended(member, status, result)

    def end(self, study: Study) -> None:
        self.other.end(study)
