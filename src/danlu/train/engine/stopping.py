"""Ctrl-C, termination and a closed terminal as a request that is honoured between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class StopRequest:
    """A context in which the first SIGINT, SIGTERM or SIGHUP sets `asked`.

    A second SIGINT interrupts at once; further ones do nothing, so that what was saved can be told.
    """

    def __init__(self) -> None:
        self.asked = False
        self.interrupted = False
        self._handlers_before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                before = signal.getsignal(number)
                # Who started us with nohup wants no terminal's end to stop us.
                if before is not None and (number == signal.SIGINT or before != signal.SIG_IGN):
                    self._handlers_before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        # The host program's own handlers come back; Ctrl-C's last, as it may interrupt this.
        for number, handler in reversed(self._handlers_before.items()):
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # Who presses twice does not want to wait for the checkpoint.
        if self.asked and number == signal.SIGINT and not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        self.asked = True
