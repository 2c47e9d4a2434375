"""A run on disk: names, whole-or-nothing writes, the lock that keeps two processes apart.

recipe.toml  data.json  run.json  metrics.jsonl  checkpoint/  weights.safetensors  normalizer.safetensors
test.safetensors (what was predicted on the test part)  report.html
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from danlu.errors import RunError, StorageError

FORMAT = 2


def runs_root() -> Path:
    """Where runs go unless told: `DANLU_RUNS`, else ./runs."""
    return Path(os.environ.get("DANLU_RUNS", "runs"))


def new_folder(label: str, root: Path | None = None) -> Path:
    """Make runs/<date-time>-<label>, with a number when that is taken."""
    label = re.sub(r"[^\w.+-]+", "-", label).strip("-")[:60] or "run"
    stem = (root or runs_root()) / f"{time.strftime('%Y%m%d-%H%M%S')}-{label}"
    for k in range(1, 1000):
        path = stem if k == 1 else stem.with_name(f"{stem.name}-{k}")
        with storing(path):
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            return path
    raise StorageError(f"{stem} exists a thousand times; name another folder with --out")


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the system's refusals into sentences."""
    try:
        yield
    except OSError as e:
        why = (e.strerror or str(e)).lower()
        raise StorageError(
            f"{path} cannot be written: {why}; what was saved before is intact, make room or name another folder"
        ) from e


def write(path: Path, content: str | bytes) -> None:
    """Write aside, flush to the disk, rename: the file appears whole or not at all."""
    raw = content.encode() if isinstance(content, str) else content
    with storing(path):
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as f:
                f.write(raw)
                f.flush()
                os.fsync(f.fileno())
            os.chmod(aside, 0o644)
            os.replace(aside, path)
        except BaseException:  # also of an interrupt: leave no half-written file, then let it go on
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Readable JSON, whole or not at all."""
    write(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises RunError when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise RunError(f"{str(path.parent)!r} is no run folder: {path.name} is missing") from e
    except (OSError, ValueError) as e:
        raise RunError(f"{path} is damaged ({e}); the run cannot be read") from e


def write_tensors(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """A safetensors file, whole or not at all."""
    write(
        path,
        save_tensors(
            {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, metadata
        ),
    )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises RunError when missing or damaged."""
    try:
        return load_tensors(path.read_bytes())
    except FileNotFoundError as e:
        raise RunError(f"{path} is missing; the run has not got that far") from e
    except (OSError, SafetensorError) as e:
        raise RunError(f"{path} is damaged or no safetensors file ({e})") from e


def read_row(path: Path, row: int) -> dict[str, torch.Tensor]:
    """One network's tensors of a file in which those of several are stacked; the rest of the file is not read."""
    try:
        with safe_open(path, "pt") as file:
            return {k: file.get_slice(k)[row : row + 1][0].clone() for k in file.keys()}  # noqa: SIM118
    except FileNotFoundError as e:
        raise RunError(f"{path} is missing; the run has not got that far") from e
    except (OSError, SafetensorError, IndexError) as e:
        raise RunError(f"{path} is damaged or no safetensors file ({e})") from e


def append_lines(path: Path, values: list[Any]) -> None:
    """JSON lines at the end of a file; a line torn by a crash is left out when reading."""
    with storing(path), path.open("a", encoding="utf-8") as f:
        f.write("".join(json.dumps(v) + "\n" for v in values))
        f.flush()


def write_lines(path: Path, values: list[Any]) -> None:
    """All the lines of a JSON-lines file anew."""
    write(path, "".join(json.dumps(v) + "\n" for v in values))


def read_lines(path: Path) -> list[Any]:
    """The whole lines of a JSON-lines file."""
    rows: list[Any] = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def held(folder: Path) -> bool:
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
    """Hold the folder for this process; the system releases it even after kill -9."""
    lock = filelock.FileLock(
        folder / ".lock", timeout=0, is_singleton=True
    )  # within, it may be taken again
    with storing(folder):
        try:
            lock.acquire(timeout=0.2)  # who only asks whether it is held does so for an instant
        except filelock.Timeout as e:
            raise RunError(
                f"{str(folder)!r} is being trained by another process; wait for it, or stop it first"
            ) from e
    try:
        yield
    finally:
        lock.release()
