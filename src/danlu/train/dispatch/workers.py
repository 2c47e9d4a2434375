"""Work side by side in forked processes: the data are shared, and no interpreter lock is fought over.

A worker trains on one thread (OpenMP does not survive a fork otherwise) and dies with its parent. Linux only:
elsewhere forking a process that has computed is not safe, and `available` says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

from danlu.errors import RunError

Send = Callable[[Any], None]
Said = tuple[int, str, Any]  # number of a job, "said" or "done" or "failed", value
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def available() -> bool:
    """Whether this system can fork safely."""
    return sys.platform == "linux"


def _child(work: Callable[[Send], Any], pipe: Connection, parent: int) -> None:
    """In the worker: do the work, send what it says, then ("done", result) or ("failed", error)."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        os._exit(1)
    try:
        pipe.send(("done", work(lambda message: pipe.send(("said", message)))))
    except BaseException as e:  # whatever it is, the parent tells it
        with contextlib.suppress(BrokenPipeError):
            pipe.send(("failed", _portable(e)))
    finally:
        pipe.close()
        sys.stdout.flush()
        os._exit(0)  # nothing of the parent's is torn down here


def _portable(e: BaseException) -> BaseException:
    """An error that gets through a pipe: this one, or its words."""
    try:
        pickle.loads(pickle.dumps(e))
    except Exception:  # anyone's classes may refuse in any way
        return RunError(f"a worker process failed ({type(e).__name__}: {e})")
    return e


def _death(code: int | None) -> Exception:
    """Why a worker died without a word."""
    if code == -signal.SIGKILL:
        return MemoryError("the system killed a worker process, as it does when memory runs out")
    return RunError(
        f"a worker process died (exit code {code}); what was saved is intact, danlu resume goes on"
    )


def run(
    jobs: Iterable[Callable[[Send], Any]], workers: int, idle: Callable[[], bool]
) -> Generator[Said, None, None]:
    """Do the jobs, `workers` at a time: (number, "said" or "done" or "failed", value) as they come.

    idle: called now and then; True asks the workers to stop and starts no more. A worker that dies has failed with a
    RunError, or with a MemoryError where the system killed it.
    """
    context = multiprocessing.get_context("fork")
    queue = enumerate(jobs)
    active: dict[Connection, tuple[int, ForkProcess]] = {}
    stopping = False
    try:
        while True:
            if idle() and not stopping:
                stopping = True
                for _, process in active.values():
                    process.terminate()
            while not stopping and len(active) < workers and (job := next(queue, None)) is not None:
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(
                    target=_child, args=(job[1], theirs, os.getpid()), daemon=True
                )
                process.start()
                theirs.close()
                active[ours] = (job[0], process)
            if not active:
                return
            for pipe in wait(list(active), timeout=0.2):
                assert isinstance(pipe, Connection)
                number, process = active[pipe]
                try:
                    kind, value = pipe.recv()
                except (EOFError, OSError):  # in the middle of a message, too
                    process.join()
                    kind, value = "failed", _death(process.exitcode)
                yield number, kind, value
                if kind != "said":
                    process.join()
                    del active[pipe]
    finally:
        for pipe, (_, process) in active.items():
            process.kill()
            process.join()
            pipe.close()
