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

from danlu.runs.folder import storing, write_tensors

KEPT = 2


def save(folder: Path, step: int, tensors: dict[str, Tensor], position: dict[str, Any]) -> Path:
    """Write the checkpoint of a step and drop all but the two newest."""
    with storing(folder):
        folder.mkdir(exist_ok=True)
    path = folder / f"{step:012d}.safetensors"
    said = json.dumps(position)
    write_tensors(path, tensors, {"danlu": said, "digest": _digest(tensors, said)})
    for old in sorted(folder.glob("*.safetensors"))[:-KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()
    return path


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest checkpoint that is whole; damaged and foreign files are passed over. None when there is none."""
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        try:
            with safe_open(path, "pt") as f:
                meta = f.metadata() or {}
                tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (it is no mapping)
            if meta.get("digest") == _digest(tensors, meta["danlu"]):
                return tensors, json.loads(meta["danlu"])
        except (OSError, SafetensorError, KeyError, ValueError):
            continue
    return None


def _digest(tensors: dict[str, Tensor], said: str) -> str:
    digest = hashlib.blake2b(said.encode(), digest_size=16)
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        digest.update(name.encode())
        digest.update(t.view(-1).view(torch.uint8).numpy().data if t.numel() else b"")
    return digest.hexdigest()
