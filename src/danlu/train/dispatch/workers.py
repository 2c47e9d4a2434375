"""Work side by side in forked processes: data are shared, and no interpreter lock is fought over.

A worker trains on one thread (OpenMP does not survive a fork otherwise) and dies with its parent.
Linux only: elsewhere forking a process that has computed is not safe, and `can_fork` says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, NamedTuple

from danlu.errors import RunError
from danlu.memory import processes_killed

REPORT, DONE, FAILED = "report", "done", "failed"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of linux/prctl.h
_POLL_SECONDS = 0.2
_MOST_KILLS = 2  # of a job, after which memory must be the reason

Send = Callable[[Any], None]
Job = Callable[[Send], Any]


class Message(NamedTuple):
    """What a worker sends: the number of its job, a kind, and a report, a result or an error."""

    job: int
    kind: str
    value: Any


def can_fork() -> bool:
    """Whether this system can fork safely."""
    return sys.platform == "linux"


def _in_child(job: Job, pipe: Connection, parent: int) -> None:
    """Do the job in the worker, and send its reports, then its result or error."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        os._exit(1)
    try:
        result = job(lambda report: pipe.send((REPORT, report)))
        pipe.send((DONE, result))
    except BaseException as e:  # whatever it is, the parent raises it
        with contextlib.suppress(BrokenPipeError):
            pipe.send((FAILED, _portable(e)))
    finally:
        pipe.close()
        sys.stdout.flush()
        os._exit(0)  # nothing of the parent's is torn down here


def _portable(e: BaseException) -> BaseException:
    """Return an error that gets through a pipe: this one, or its words."""
    try:
        pickle.loads(pickle.dumps(e))
    except Exception:  # anyone's classes may refuse in any way
        return RunError(f"a worker process failed ({type(e).__name__}: {e})")
    return e


def _why_it_died(exit_code: int | None) -> Exception:
    if exit_code == -signal.SIGKILL:
        return MemoryError("a worker process was killed, as the system does when memory runs out")
    return RunError(
        f"a worker process died (exit code {exit_code}); what was saved is intact, "
        "danlu resume goes on"
    )


def run_workers(
    jobs: Iterable[Job], workers: int, should_stop: Callable[[], bool]
) -> Generator[Message, None, None]:
    """Do the jobs, `workers` at a time, and yield what they send as it comes.

    should_stop: called now and then; True asks the workers to stop and starts no more. A worker
    that dies has failed with a RunError. One that is killed from outside begins its job again, as
    it was; where the system killed it for want of memory, or it is killed again and again, the job
    has failed with a MemoryError.
    """
    queue: Iterator[tuple[int, Job]] = enumerate(jobs)
    active: dict[Connection, _Worker] = {}
    kills = _Kills()
    is_stopping = False
    try:
        while True:
            if not is_stopping and should_stop():
                is_stopping = True
                queue = iter(())
                for worker in active.values():
                    worker.process.terminate()
            for number, job in itertools.islice(queue, workers - len(active)):
                pipe, worker = _start(number, job)
                active[pipe] = worker
            if not active:
                return
            for ready in wait(list(active), timeout=_POLL_SECONDS):
                assert isinstance(ready, Connection)
                message, is_killed = _receive(ready, active[ready])
                if message.kind == REPORT:
                    yield message
                    continue
                worker = active.pop(ready)
                worker.process.join()
                if is_killed and not is_stopping and kills.forgives(worker.number):
                    pipe, again = _start(worker.number, worker.job)
                    active[pipe] = again
                else:
                    yield message
    finally:
        for pipe, worker in active.items():
            worker.process.kill()
            worker.process.join()
            pipe.close()


class _Kills:
    """Which jobs' workers were killed, and whether for want of memory."""

    def __init__(self) -> None:
        self.times: Counter[int] = Counter()  # by the number of the job
        self.for_memory = processes_killed()

    def forgives(self, number: int) -> bool:
        """Whether a job whose worker was killed may begin again as it was."""
        self.times[number] += 1
        is_for_memory = processes_killed() > self.for_memory
        return self.times[number] <= _MOST_KILLS and not is_for_memory


class _Worker(NamedTuple):
    """A process at a job, and the job's number."""

    number: int
    job: Job
    process: ForkProcess


def _start(number: int, job: Job) -> tuple[Connection, _Worker]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_in_child, args=(job, theirs, os.getpid()), daemon=True)
    process.start()
    theirs.close()
    return ours, _Worker(number, job, process)


def _receive(pipe: Connection, worker: _Worker) -> tuple[Message, bool]:
    """Return a worker's next message, and whether it was killed instead of sending one."""
    try:
        kind, value = pipe.recv()
        return Message(worker.number, kind, value), False
    except (EOFError, OSError):  # also in the middle of a message
        worker.process.join()
        exit_code = worker.process.exitcode
        error = _why_it_died(exit_code)
        return Message(worker.number, FAILED, error), exit_code == -signal.SIGKILL
