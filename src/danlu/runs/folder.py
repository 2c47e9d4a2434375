"""The folder of a run: its name, its format, and the lock that keeps two processes apart.

recipe.toml  data.json  run.json  metrics.jsonl  checkpoint/  weights.safetensors
normalizer.safetensors  test.safetensors (what was predicted on the test part)
measurements.parquet (what probes found)  report.html
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from danlu.errors import RunError, StorageError
from danlu.files import Sealed, check_file, is_file, refuse_links, storing

Files = Mapping[str, str | bytes]  # contents by name

_UNFINISHED = ".danlu-new-"  # before the names of folders that are being made
_OLD_SECONDS = 600.0


def runs_root() -> Path:
    """Return where runs go unless specified: `DANLU_RUNS`, else ./runs."""
    return Path(os.environ.get("DANLU_RUNS", "runs"))


def create(
    path: Path | None, label: str, index: str, files: Files, facts: Mapping[str, Any]
) -> Path:
    """Make the folder of a run or study, which appears with its first files, or not at all.

    path: None for runs/<date-time>-<label>. index: the name of the file that vouches for the
    others. Raises RunError for a folder that holds something, also if another process has just
    begun there; StorageError when the disk refuses.
    """
    if path is None:
        return _create_dated(label, index, files, facts)
    # A folder may be there already: a mounted one, or the one that the user is in.
    if path.is_dir():
        _fill(path, index, files, facts)
    else:
        _place(path, index, files, facts)
    return path


def _create_dated(label: str, index: str, files: Files, facts: Mapping[str, Any]) -> Path:
    label = re.sub(r"[^\w.+-]+", "-", label).strip("-")[:60] or "run"
    stem = runs_root() / f"{time.strftime('%Y%m%d-%H%M%S')}-{label}"
    # Two trainings may begin in the same second.
    for k in range(1, 1000):
        path = stem if k == 1 else stem.with_name(f"{stem.name}-{k}")
        if path.exists():
            continue
        with contextlib.suppress(RunTaken):
            _place(path, index, files, facts)
            return path
    raise StorageError(f"{stem} exists a thousand times; name another folder with --out")


class RunTaken(RunError):
    """A folder for a new run holds something already."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{str(path)!r} exists and is not empty; name another folder with --out, or resume it"
        )


def _place(path: Path, index: str, files: Files, facts: Mapping[str, Any]) -> None:
    """Make a folder beside its place, and move it there when it is whole."""
    with storing(path):
        if os.path.lexists(path):
            raise RunTaken(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        made = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=path.parent))
    try:
        _write_all(made, index, files, facts)
        with storing(path):
            made.chmod(0o777 & ~_umask())
            try:
                os.rename(made, path)
            except OSError as e:
                # Another process was faster.
                if e.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise RunTaken(path) from e
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _fill(path: Path, index: str, files: Files, facts: Mapping[str, Any]) -> None:
    """Write into a folder that is there and empty, but for what a kill left at just that moment."""
    ours = {".lock", *files}
    with locked(path), storing(path):
        if any(entry.name not in ours or not is_file(entry) for entry in path.iterdir()):
            raise RunTaken(path)
        _write_all(path, index, files, facts)


def _write_all(folder: Path, index: str, files: Files, facts: Mapping[str, Any]) -> None:
    """Write files, and at last the index, which makes the folder a run or study."""
    sealed = Sealed(folder / index)
    digests: dict[str, str] = {}
    for name, content in files.items():
        digests |= sealed.write(name, content)
    sealed.update(**facts, files=digests)


def _remove_leftovers(root: Path) -> None:
    """Remove what processes that were killed had begun to make here."""
    for left in root.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):
            is_old = time.time() - left.lstat().st_mtime > _OLD_SECONDS
            if is_old and not left.is_symlink():
                shutil.rmtree(left)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def with_files(root: Path | None, *names: str) -> list[Path]:
    """Return the folders under a folder (default: the runs folder) that have one of some files.

    Whatever lies there: what is spoilt must be told of.
    """
    root = root or runs_root()
    if not root.is_dir():
        return []
    found = []
    for path in root.iterdir():
        is_whole = not path.name.startswith(_UNFINISHED)
        if is_whole and any(os.path.lexists(path / name) for name in names):
            found.append(path)
    return sorted(found)


def is_locked(folder: Path) -> bool:
    """Whether a process, this one included, holds the folder."""
    if os.path.lexists(folder / ".lock") and not is_file(folder / ".lock"):
        return False  # whoever takes it will say what is wrong with it
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
    refuse_links(folder)
    check_file(folder / ".lock")
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
