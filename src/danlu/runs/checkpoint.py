"""Checkpoints: one safetensors file each, with a digest of its content; the two newest are kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from danlu.runs.folder import storing, write, write_tensors

KEPT = 2
_POSITION = "danlu.position"  # JSON
_VERSION = 2  # of what the engine keeps in them; others are set aside


def save(
    folder: Path, step: int, tensors: dict[str, Tensor], position: dict[str, Any], owner: str
) -> Path:
    """Write the checkpoint of a step and drop all but the two newest. `owner` names the run it belongs to."""
    with storing(folder):
        folder.mkdir(exist_ok=True)
    path = folder / f"{step:012d}.safetensors"
    said = torch.frombuffer(
        bytearray(json.dumps(position).encode()), dtype=torch.uint8
    )  # may be long, and headers may not
    tensors = {**tensors, _POSITION: said}
    write_tensors(path, tensors, {"digest": _digest(tensors, owner)})
    _prune(folder)
    return path


def put(folder: Path, name: str, raw: bytes) -> None:
    """Write a checkpoint that was saved elsewhere."""
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write(folder / name, raw)
    _prune(folder)


def _prune(folder: Path) -> None:
    for old in sorted(folder.glob("*.safetensors"))[:-KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()


def forget(folder: Path) -> None:
    """Remove checkpoints that are no longer needed, and the folders that they leave empty."""
    for old in folder.glob("*"):
        old.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def load(folder: Path, owner: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest checkpoint of that owner that is whole, or None. Damaged and foreign files are set aside as `.bad`."""
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        try:
            with safe_open(path, "pt") as f:
                meta = f.metadata() or {}
                tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (it is no mapping)
            if meta.get("digest") == _digest(tensors, owner):
                return tensors, json.loads(tensors.pop(_POSITION).numpy().tobytes())
        except (OSError, SafetensorError, KeyError, ValueError):
            pass
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".bad"))
    return None


def _digest(tensors: dict[str, Tensor], owner: str) -> str:
    digest = hashlib.blake2b(repr((_VERSION, owner)).encode(), digest_size=16)
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        digest.update(name.encode())
        digest.update(t.view(-1).view(torch.uint8).numpy().data if t.numel() else b"")
    return digest.hexdigest()
