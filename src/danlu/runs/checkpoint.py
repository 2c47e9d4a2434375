"""Checkpoints: one safetensors file each, with a digest of its content; the two newest are kept."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from danlu.errors import RunError, reason_of, short_path, some
from danlu.files import (
    check_folder,
    digest_of,
    is_file,
    parse_json,
    read_tensors,
    remove,
    subfolder,
    write,
    write_tensors,
)
from danlu.memory import is_out_of_memory

KEPT = 2
_POSITION = "danlu.position"  # name of the tensor that holds the position, as JSON
_DIGEST = "danlu.digest"  # likewise, of the digest of all
_VERSION = 6  # of what the engine keeps in them; others are set aside
# Names of ours: checkpoints, those set aside, and what a kill left of one that was being written.
_OWN = re.compile(r"\d{12}\.(safetensors|bad)|\.\d{12}\.safetensors\.\w+")
_WHOLE = re.compile(r"\d{12}\.safetensors")


class Checkpoint(NamedTuple):
    """The tensors of a training, and where it stood."""

    tensors: dict[str, Tensor]
    position: dict[str, Any]


def save(
    folder: Path, step: int, tensors: dict[str, Tensor], position: dict[str, Any], owner: str
) -> Path:
    """Write the checkpoint of a step and drop all but the two newest.

    owner: names the run it belongs to. Raises StorageError.
    """
    path = subfolder(folder) / f"{step:012d}.safetensors"
    # As a tensor: it may be long, and the headers of safetensors files may not.
    encoded = torch.frombuffer(bytearray(json.dumps(position).encode()), dtype=torch.uint8)
    tensors = {**tensors, _POSITION: encoded}
    digest = bytearray(_digest(tensors, owner).encode())
    tensors[_DIGEST] = torch.frombuffer(digest, dtype=torch.uint8)
    write_tensors(path, tensors)
    _drop_old(folder)
    return path


def put(folder: Path, name: str, raw: bytes) -> None:
    """Write a checkpoint that was saved on another machine."""
    write(subfolder(folder) / name, raw)
    _drop_old(folder)


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder. Raises RunError where a link is in its place."""
    check_folder(folder)
    if not folder.is_dir():
        return []
    files = folder.glob("*.safetensors")
    return sorted((f for f in files if _WHOLE.fullmatch(f.name) and is_file(f)), reverse=True)


def _drop_old(folder: Path) -> None:
    for old in newest_first(folder)[KEPT:]:
        with contextlib.suppress(OSError):
            old.unlink()


def remove_all(folder: Path) -> None:
    """Remove checkpoints that are no longer needed, and the folder if that leaves it empty."""
    remove(folder, _OWN)


class Found(NamedTuple):
    """The newest whole checkpoint, or None, and the names of damaged or foreign ones after it."""

    checkpoint: Checkpoint | None
    damaged: tuple[str, ...]

    def notice(self, folder: Path) -> str:
        """Return which checkpoints could not be used, and where the training goes on instead."""
        verb = "is" if len(self.damaged) == 1 else "are"
        start = "the one before" if self.checkpoint else "the beginning"
        listed = some(self.damaged)
        return f"{short_path(folder)}: {listed} {verb} damaged, so training goes on from {start}"


@contextlib.contextmanager
def restoring(folder: Path) -> Iterator[None]:
    """Raise what goes wrong in going on from a checkpoint of another network as a RunError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as e:
        if is_out_of_memory(e):  # of which the scheduler makes smaller chunks
            raise
        raise RunError(
            f"{short_path(folder)}: the checkpoint is not one of this training ({reason_of(e)}); "
            "delete it to begin again"
        ) from e


def load(folder: Path, owner: str) -> Found:
    """Return the newest whole checkpoint of that owner.

    Damaged and foreign files are set aside as `.bad`.
    """
    damaged: list[str] = []
    # The newest first: an older one is for when that was being written at the crash.
    for path in newest_first(folder):
        checkpoint = _read(path, owner)
        if checkpoint is not None:
            return Found(checkpoint, tuple(damaged))
        damaged.append(path.name)
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".bad"))
    return Found(None, tuple(damaged))


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """Return the history in the newest checkpoint of a run that can be read; none without any."""
    with contextlib.suppress(KeyError, ValueError, TypeError):
        position = tensors_in(folder)[_POSITION].numpy().tobytes()
        return list(parse_json(position)["rows"])
    return []


def tensors_in(folder: Path) -> dict[str, Tensor]:
    """Return what is in the newest checkpoint of a run that can be read; nothing without any."""
    for path in newest_first(folder):
        with contextlib.suppress(RunError):
            return read_tensors(path)
    return {}


def _read(path: Path, owner: str) -> Checkpoint | None:
    """Return the checkpoint in a file, None where it is damaged or another's."""
    try:
        tensors = read_tensors(path)
        digest = tensors.pop(_DIGEST).numpy().tobytes().decode()
        if digest != _digest(tensors, owner):
            return None
        position = parse_json(tensors.pop(_POSITION).numpy().tobytes())
    except (RunError, KeyError, ValueError):
        return None
    return Checkpoint(tensors, position)


def _digest(tensors: dict[str, Tensor], owner: str) -> str:
    return digest_of(tensors, repr((_VERSION, owner)))
