"""Weights from files: those of runs (safetensors), and those that PyTorch's users publish (.pt, .pth)."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from danlu.errors import ModelError, RunError, count, some, wrong
from danlu.runs import folder

_PYTORCH = (b"PK\x03\x04", b"\x80")  # how its files begin: zip archives, before 1.6 pickles


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. No code in it is run. Raises RunError for a file that holds none."""
    if not _of_pytorch(path):
        return folder.read_tensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of whole modules PyTorch advises to run the code in them
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        EOFError,
        KeyError,
        ValueError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as e:
        raise RunError(
            f"{str(path)!r} is damaged, or holds more than weights; save model.state_dict() there"
        ) from e
    while isinstance(found, Mapping) and not all(isinstance(v, Tensor) for v in found.values()):
        inner = next(
            (
                found[k]
                for k in ("state_dict", "model", "model_state_dict")
                if isinstance(found.get(k), Mapping)
            ),
            None,
        )
        if inner is None:
            break
        found = inner
    if (
        not isinstance(found, Mapping)
        or not found
        or not all(isinstance(v, Tensor) for v in found.values())
    ):
        raise RunError(f"{str(path)!r} holds no weights by name; save model.state_dict() there")
    return {
        str(k).removeprefix("module."): v for k, v in found.items()
    }  # as nn.DataParallel calls them


def start_file(start: str) -> Path:
    """The file of the weights that `init.from_run` names: itself, or of a run. Raises RunError where there is none."""
    where = Path(start)
    file = where / "weights.safetensors" if where.is_dir() else where
    if not file.is_file():
        raise RunError(wrong("init.from_run", start, "must be a finished run or a file of weights"))
    return file


def _of_pytorch(path: Path) -> bool:
    """By its first bytes: names tell little (.pth.tar, .ckpt). Raises RunError where it cannot be read."""
    try:
        with path.open("rb") as f:
            head = f.read(9)
    except OSError as e:
        raise RunError(f"{str(path)!r} cannot be read: {(e.strerror or str(e)).lower()}") from e
    return (
        head.startswith(_PYTORCH) and head[8:] != b"{"
    )  # safetensors: the header's length, then the header


def taken(name: str, prefix: Sequence[str]) -> bool:
    """Whether weights of that name are taken: all without a prefix."""
    return not prefix or any(name.startswith(p) for p in prefix)


def load_weights(
    model: nn.Module, tensors: Mapping[str, Tensor], where: str, start: Sequence[str] | None = None
) -> None:
    """Copy weights by name. Raises ModelError, naming what does not fit.

    start: of weights to start from, beginnings of the names that are taken, all without any; None: a run's own.
    """
    prefix, every = start or (), model.state_dict()
    tensors = _unwrapped(tensors, every) if start is not None else tensors
    own, given = ({k: v for k, v in of.items() if taken(k, prefix)} for of in (every, tensors))
    idle = [p for p in prefix if not any(k.startswith(p) for k in own)]
    if idle:
        parts = list(dict.fromkeys(k.partition(".")[0] for k in every))
        raise ModelError(
            f"`init.prefix` is {some(idle)}, but no weight's name begins so; the network has {some(parts, 12)}"
        )
    absent = [k for k in own if k not in given and not _counts(k)]
    strange = [k for k in given if k not in own and not _counts(k)]
    unfit = {k: said for k in own if k in given and (said := _unfit(k, given[k], own[k]))}
    if unfit or absent or strange:
        n, needed = len(unfit) + len(absent), len({k for k in own if not _counts(k)} | set(unfit))
        counts = [f"{n:,} of its {needed:,} weights differ or are missing there"] if n else []
        counts += (
            [
                f"{count(len(strange), 'weight')} of that file {'is' if len(strange) == 1 else 'are'} not in it"
            ]
            if strange
            else []
        )
        found = [
            *unfit.values(),
            *(f"`{k}` is missing" for k in absent),
            *(f"`{k}` is not in the network" for k in strange),
        ]
        told = f"{where!r} does not fit this network: {', '.join(counts)}: {some(found)}"
        raise ModelError(told + (_way_out(own, {*unfit, *absent, *strange}) if start == () else ""))
    with torch.no_grad():
        for k, v in own.items():
            if k in given:
                v.copy_(given[k])


def _counts(name: str) -> bool:
    """Whether it is a normalisation's count of batches, which old files lack."""
    return name.endswith("num_batches_tracked")


def _unwrapped(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without what a wrapper put before every name (`model.` of Lightning, `_orig_mod.` of a compiled network)."""
    first = next(iter(own), "")
    before = min(
        (k.removesuffix(first) for k in tensors if k.endswith(f".{first}")), key=len, default=""
    )
    if (
        not before
        or first in tensors
        or not all(f"{before}{k}" in tensors for k in own if not _counts(k))
    ):
        return tensors
    return {k.removeprefix(before): v for k, v in tensors.items()}


def _unfit(name: str, given: Tensor, own: Tensor) -> str:
    """What keeps a tensor from being one of the network's; empty where nothing does."""
    if given.layout != torch.strided or given.is_quantized or given.is_meta:
        kind = (
            "quantised" if given.is_quantized else "without values" if given.is_meta else "sparse"
        )
        return f"`{name}` is {kind}"
    if given.shape != own.shape:
        return f"`{name}` is {tuple(given.shape)} instead of {tuple(own.shape)}"
    if given.is_complex():
        return f"`{name}` is of complex numbers"
    return "" if given.to(own.dtype).isfinite().all() else f"`{name}` holds NaN or infinite values"


def _way_out(own: Mapping[str, Tensor], unfit: Collection[str]) -> str:
    """The parts of the network that do fit, as a prefix."""
    bad = {_part(k) for k in unfit}
    good = [p for p in dict.fromkeys(map(_part, own)) if p not in bad]
    return f"; take what fits with init.prefix={','.join(good)}" if good else ""


def _part(name: str) -> str:
    """A block of a network by the name of a weight in it."""
    return name.partition(".")[0] + ("." if "." in name else "")


def frozen(model: nn.Module, prefix: Iterable[str]) -> None:
    """Let the weights that were taken stay as they are. Raises ModelError when nothing would be left to train."""
    prefix = tuple(prefix)
    for name, p in model.named_parameters():
        if taken(name, prefix):
            p.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError(
            "`init.frozen` leaves nothing to train; name the weights that stay with init.prefix, such as features"
        )
