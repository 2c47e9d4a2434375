"""Checkpoints: one safetensors file each, with a digest of its content; the two newest are kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from danlu.files import storing, write, write_tensors

KEPT = 2
_POSITION = "danlu.position"  # name of the tensor that holds the position, as JSON
_VERSION = 4  # of what the engine keeps in them; others are set aside


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
    with storing(folder):
        folder.mkdir(exist_ok=True)
    path = folder / f"{step:012d}.safetensors"
    # As a tensor: it may be long, and the headers of safetensors files may not.
    encoded = torch.frombuffer(bytearray(json.dumps(position).encode()), dtype=torch.uint8)
    tensors = {**tensors, _POSITION: encoded}
    write_tensors(path, tensors, {"digest": _digest(tensors, owner)})
    _drop_old(folder)
    return path


def put(folder: Path, name: str, raw: bytes) -> None:
    """Write a checkpoint that was saved on another machine."""
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write(folder / name, raw)
    _drop_old(folder)


def _drop_old(folder: Path) -> None:
    for old in sorted(folder.glob("*.safetensors"))[:-KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()


def remove_all(folder: Path) -> None:
    """Remove checkpoints that are no longer needed, and the folder if that leaves it empty."""
    for old in folder.glob("*"):
        old.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def load(folder: Path, owner: str) -> Checkpoint | None:
    """Return the newest whole checkpoint of that owner, or None.

    Damaged and foreign files are set aside as `.bad`.
    """
    # The newest first: an older one is for when that was being written at the crash.
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        checkpoint = _read(path, owner)
        if checkpoint is not None:
            return checkpoint
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".bad"))
    return None


def _read(path: Path, owner: str) -> Checkpoint | None:
    """Return the checkpoint in a file, None where it is damaged or another's."""
    try:
        with safe_open(path, "pt") as f:
            metadata = f.metadata() or {}
            names = f.keys()
            tensors = {name: f.get_tensor(name) for name in names}
        if metadata.get("digest") != _digest(tensors, owner):
            return None
        position = json.loads(tensors.pop(_POSITION).numpy().tobytes())
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return Checkpoint(tensors, position)


def _digest(tensors: dict[str, Tensor], owner: str) -> str:
    beginning = repr((_VERSION, owner))
    digest = hashlib.blake2b(beginning.encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        tensor = tensors[name].detach().cpu().contiguous()
        if tensor.numel():
            octets = tensor.view(-1).view(torch.uint8)
            digest.update(octets.numpy().data)
    return digest.hexdigest()
