"""The folder of a run: its name, its format, and the lock that keeps two processes apart.

recipe.toml  data.json  run.json  metrics.jsonl  checkpoint/  weights.safetensors
normalizer.safetensors  test.safetensors (what was predicted on the test part)  report.html
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from danlu.errors import RunError, StorageError
from danlu.files import storing


def runs_root() -> Path:
    """Return where runs go unless specified: `DANLU_RUNS`, else ./runs."""
    return Path(os.environ.get("DANLU_RUNS", "runs"))


def new_folder(label: str, root: Path | None = None) -> Path:
    """Make runs/<date-time>-<label>, with a number when that is taken. Raises StorageError."""
    label = re.sub(r"[^\w.+-]+", "-", label).strip("-")[:60] or "run"
    stem = (root or runs_root()) / f"{time.strftime('%Y%m%d-%H%M%S')}-{label}"
    # Two trainings may begin in the same second.
    for k in range(1, 1000):
        path = stem if k == 1 else stem.with_name(f"{stem.name}-{k}")
        with storing(path):
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            return path
    raise StorageError(f"{stem} exists a thousand times; name another folder with --out")


def is_locked(folder: Path) -> bool:
    """Whether a process, this one included, holds the folder."""
    lock = filelock.FileLock(folder / ".lock", timeout=0, is_singleton=True)
    if lock.is_locked:
        return True
    try:
        with lock:
            return False
    except filelock.Timeout:
        return True
    except OSError:  # a folder that cannot be written to
        return False


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the system releases it even after kill -9.

    It may be taken again inside. Raises RunError where another process holds it.
    """
    lock = filelock.FileLock(folder / ".lock", timeout=0, is_singleton=True)
    with storing(folder):
        try:
            # Whoever only asks whether it is held does so for an instant.
            lock.acquire(timeout=0.2)
        except filelock.Timeout as e:
            raise RunError(
                f"{str(folder)!r} is being trained by another process; "
                "wait for it, or stop it first"
            ) from e
    try:
        yield
    finally:
        lock.release()
