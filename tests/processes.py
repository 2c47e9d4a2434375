"""Programs in processes of their own, killed or asked to stop at an event instead of a moment.

An event is a step of a training, a file that is flushed or put in its place, or a commit of a
database; they are counted over all processes of the program. So what is hit does not hang on how
fast a machine is, and time is made: a clock of the training loop goes on by as much at each look.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import runpy
import signal
import tempfile
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy

from danlu.train import Listener
from danlu.train.engine import loop

# A further case of a kill: the first of each kind suffices for `make test`.
SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)
_TICK = 0.01  # seconds by which the loop's clock goes on at each look


class StopAt(Listener):
    """Presses Ctrl-C in this process when a step is reached."""

    interval = 0.0

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, done: int, loss: float, accuracy: float) -> None:
        if done >= self.at:
            os.kill(os.getpid(), signal.SIGINT)


class Outcome(NamedTuple):
    """How a program ended: its exit code (−n for signal n), its error, and the events until then."""

    code: int
    error: str
    events: int


def in_child(
    work: Callable[[], object],
    since: Path,
    at: int | None = None,
    send: int = signal.SIGKILL,
) -> Outcome:
    """Do the work in a process of its own, which is sent a signal at an event (counted from 1).

    since: the file from whose appearance on events count: before it there is nothing to go on with.
    """
    counter = multiprocessing.Value("q", 0)  # shared with all processes that are forked
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "error"
        pid = os.fork()
        if pid == 0:
            _be_the_child(work, counter, since, at, send, said)
        _, status = os.waitpid(pid, 0)
        error = said.read_text() if said.exists() else ""
    events = counter.get_obj().value  # without the lock: a killed process may hold it
    return Outcome(os.waitstatus_to_exitcode(status), error, events)


def run_script(script: Path) -> str:
    """Return what a script prints, run in a process that need not import everything anew."""
    printed = script.with_suffix(".out")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with printed.open("w") as out, contextlib.redirect_stdout(out):
                runpy.run_path(str(script), run_name="__main__")
            code = 0
        except BaseException:  # told to the parent, whatever it is
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0, f"{script} failed"
    return printed.read_text()


def _be_the_child(
    work: Callable[[], object],
    counter: Any,
    since: Path,
    at: int | None,
    send: int,
    said: Path,
) -> None:
    code = 1
    try:
        with _counted(counter, os.getpid(), since, at, send):
            work()
        code = 0
    except BaseException:  # told to the parent, whatever it is
        said.write_text(traceback.format_exc())
    finally:
        os._exit(code)  # nothing of pytest's is torn down here


@contextlib.contextmanager
def _counted(counter: Any, program: int, since: Path, at: int | None, send: int) -> Iterator[None]:
    def happen() -> None:
        if not since.exists():
            return
        is_program = os.getpid() == program
        with counter.get_lock():  # or one worker sets back what the others counted
            counter.value += 1
            reached = counter.value == at
            if reached and not is_program:
                os.kill(program, send)  # while it cannot hold the lock
        if reached and is_program:
            os.kill(program, send)

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            happen()
            return real(*args, **options)

        return call

    now = [0.0]

    def clock() -> float:
        now[0] += _TICK
        return now[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(os, "fsync", counted(os.fsync))
        patch.setattr(loop.Loop, "_between_steps", counted(loop.Loop._between_steps))
        patch.setattr(loop, "time", types.SimpleNamespace(perf_counter=clock))
        sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", lambda connection: happen())
        yield
