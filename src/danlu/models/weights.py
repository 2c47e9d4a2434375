"""Weights from files: those of runs (safetensors), and PyTorch's (.pt, .pth)."""

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
from danlu.files import Sealed, is_file, parse_tensors, read_tensors

# How PyTorch's files begin: zip archives, before version 1.6 pickles.
_PYTORCH = (b"PK\x03\x04", b"\x80")
# Where training scripts put the weights within what they save.
_STATE_KEYS = ("state_dict", "model", "model_state_dict")
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    KeyError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name. No code in it is run.

    Raises RunError for a file that holds none.
    """
    index = path.with_name("run.json")
    if path.name == "weights.safetensors" and is_file(index):
        return parse_tensors(Sealed(index).read(path.name), path)
    path = path.resolve()  # the user's own file may be a link
    if not _is_pytorch_file(path):
        return read_tensors(path)
    try:
        with warnings.catch_warnings():
            # For whole modules PyTorch advises running the code in them.
            warnings.simplefilter("ignore")
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as e:
        raise RunError(
            f"{str(path)!r} is damaged, or holds more than weights; save model.state_dict() there"
        ) from e
    state = _state_dict_in(found)
    if state is None:
        raise RunError(f"{str(path)!r} holds no weights by name; save model.state_dict() there")
    # nn.DataParallel puts `module.` before every name.
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _state_dict_in(content: Any) -> Mapping[str, Tensor] | None:
    """Return the mapping of names to tensors in what a training script saved."""
    # Scripts may put the weights some levels deep.
    while isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return content
        inner = (content[key] for key in _STATE_KEYS if isinstance(content.get(key), Mapping))
        content = next(inner, None)
    return None


def weights_file(start: str) -> Path:
    """Return the file of the weights that `init.weights` names: itself, or a run's.

    Raises RunError where there is none.
    """
    path = Path(start)
    file = path / "weights.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise RunError(wrong("init.weights", start, "must be a finished run or a file of weights"))
    return file


def _is_pytorch_file(path: Path) -> bool:
    """Whether a file is PyTorch's by its first bytes; names say little (.pth.tar, .ckpt).

    Raises RunError where it cannot be read.
    """
    try:
        with path.open("rb") as f:
            head = f.read(9)
    except OSError as e:
        raise RunError(f"{str(path)!r} cannot be read: {(e.strerror or str(e)).lower()}") from e
    # A safetensors file begins with the header's length, then the header, which is JSON.
    is_safetensors = head[8:] == b"{"
    return head.startswith(_PYTORCH) and not is_safetensors


def matches_prefix(name: str, prefix: Sequence[str]) -> bool:
    """Whether weights of that name are loaded: all of them without a prefix."""
    return not prefix or any(name.startswith(p) for p in prefix)


def load_weights(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    prefix: Sequence[str] | None = None,
) -> None:
    """Copy weights into a network by name. Raises ModelError, naming what does not fit.

    prefix: beginnings of the names to load from a foreign file, all of them without any; None for
    a network's own weights, which must fit as they are.
    """
    is_start = prefix is not None
    prefix = prefix or ()
    state = model.state_dict()
    # A file from elsewhere may have been saved by a wrapper.
    if is_start:
        tensors = _without_wrapper(tensors, state)
    own = _with_prefix(state, prefix)
    given = _with_prefix(tensors, prefix)
    _refuse_idle_prefix(prefix, own, state)
    problems = _problems(own, given)
    if problems:
        listed = some(problems.values())
        counts = _problem_counts(own, given, problems)
        hint = _prefix_that_fits(own, problems) if is_start and not prefix else ""
        raise ModelError(f"{source!r} does not fit this network: {counts}: {listed}{hint}")
    with torch.no_grad():
        for name, tensor in own.items():
            if name in given:
                tensor.copy_(given[name])


def _with_prefix(tensors: Mapping[str, Tensor], prefix: Sequence[str]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if matches_prefix(name, prefix)}


def _refuse_idle_prefix(
    prefix: Sequence[str], own: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> None:
    idle = [p for p in prefix if not any(name.startswith(p) for name in own)]
    if idle:
        blocks = dict.fromkeys(name.partition(".")[0] for name in state)
        raise ModelError(
            f"`init.prefix` is {some(idle)}, but no weight's name begins with it; "
            f"the network has {some(blocks, 12)}"
        )


def _problems(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, str]:
    """Return what is wrong by the weight's name: it does not fit, is missing, or is too many."""
    misfits, missing, extra = {}, {}, {}
    for name, tensor in own.items():
        if name in given:
            problem = _misfit(name, given[name], tensor)
            if problem:
                misfits[name] = problem
        elif not _is_batch_count(name):
            missing[name] = f"`{name}` is missing"
    for name in given:
        if name not in own and not _is_batch_count(name):
            extra[name] = f"`{name}` is not in the network"
    return {**misfits, **missing, **extra}


def _problem_counts(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], problems: Mapping[str, str]
) -> str:
    needed = {name for name in own if not _is_batch_count(name) or name in problems}
    n_own = sum(name in own for name in problems)
    n_extra = len(problems) - n_own
    counts = []
    if n_own:
        counts.append(f"{n_own:,} of its {len(needed):,} weights differ or are missing there")
    if n_extra:
        verb = "is" if n_extra == 1 else "are"
        counts.append(f"{count(n_extra, 'weight')} of that file {verb} not in it")
    return ", ".join(counts)


def _is_batch_count(name: str) -> bool:
    """Whether it is a normalisation's count of batches, which old files lack."""
    return name.endswith("num_batches_tracked")


def _without_wrapper(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """Return tensors without what a wrapper put before every name.

    Such as `model.` of Lightning, or `_orig_mod.` of a compiled network.
    """
    # One name is enough to find the wrapper; the others must then agree.
    first = next(iter(own), "")
    wrappers = [name.removesuffix(first) for name in tensors if name.endswith(f".{first}")]
    wrapper = min(wrappers, key=len, default="")
    if not wrapper or first in tensors:
        return tensors
    needed = [name for name in own if not _is_batch_count(name)]
    if not all(f"{wrapper}{name}" in tensors for name in needed):
        return tensors
    return {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}


def _misfit(name: str, given: Tensor, own: Tensor) -> str:
    """Return what keeps a tensor from being one of the network's; empty where nothing does."""
    if given.is_quantized:
        return f"`{name}` is quantised"
    if given.is_meta:
        return f"`{name}` is without values"
    if given.layout != torch.strided:
        return f"`{name}` is sparse"
    if given.shape != own.shape:
        return f"`{name}` is {tuple(given.shape)} instead of {tuple(own.shape)}"
    if given.is_complex():
        return f"`{name}` is complex"
    if not given.to(own.dtype).isfinite().all():
        return f"`{name}` holds NaN or infinite values"
    return ""


def _prefix_that_fits(own: Mapping[str, Tensor], problems: Collection[str]) -> str:
    """Return a hint that names the blocks of the network that do fit."""
    bad = {_block(name) for name in problems}
    good = []
    for block in dict.fromkeys(map(_block, own)):
        if block not in bad:
            good.append(block)
    if not good:
        return ""
    return f"; load what fits with init.prefix={','.join(good)}"


def _block(name: str) -> str:
    """Return a block of a network by the name of a weight in it."""
    block, dot, _ = name.partition(".")
    return block + dot


def freeze(model: nn.Module, prefix: Iterable[str]) -> None:
    """Keep the weights that were loaded as they are.

    Raises ModelError when nothing would be left to train.
    """
    prefix = tuple(prefix)
    for name, p in model.named_parameters():
        if matches_prefix(name, prefix):
            p.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError(
            "`init.frozen` leaves nothing to train; name the weights that stay with init.prefix, "
            "such as features"
        )
