"""Ctrl-C and termination as a request that is honoured between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """A context in which the first SIGINT or SIGTERM sets `asked`; a second SIGINT interrupts."""

    def __init__(self) -> None:
        self.asked = False
        self._handlers_before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers_before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers_before.items():
            # The host program's own handlers come back.
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # Who presses twice does not want to wait for the checkpoint.
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
