"""What a chunk reports, across processes and machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from danlu.runs import Member


@dataclass(frozen=True)
class StepsDone:
    """Steps done by all members of a chunk together."""

    chunk: str
    steps: int


@dataclass(frozen=True)
class Note:
    """Something that the user should know."""

    sentence: str


Report = StepsDone | Note | Member  # a Member has ended


class SendingReporter:
    """Sends reports to wherever the study is kept."""

    def __init__(self, send: Callable[[Report], Any]) -> None:
        self.send = send

    def steps(self, chunk: str, done: int) -> None:
        """Send the steps done."""
        self.send(StepsDone(chunk, done))

    def ended(self, member: Member) -> None:
        """Send a member that has ended."""
        self.send(member)

    def note(self, sentence: str) -> None:
        """Send what the user should know."""
        self.send(Note(sentence))
