"""Making anyone's network take what danlu's batches hold, and give what its losses take.

By hooks, so that the names of its weights stay. Legend: B examples, F features, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from danlu.data.inputs import Input, unpacked


def take_inputs(model: nn.Module, inputs: Sequence[Input]) -> None:
    """Let a network take its several inputs, which a batch [B, F] holds side by side."""
    if not inputs or getattr(model, _MARK, False):
        return
    setattr(model, _MARK, True)

    def unpack(module: nn.Module, args: Any, kwargs: Any) -> Any:
        (x,) = args
        parts = unpacked(x, inputs)
        if inputs[0].name is None:
            return tuple(parts), kwargs
        return (), dict(zip([part.name for part in inputs], parts, strict=True))

    model.register_forward_pre_hook(unpack, with_kwargs=True)


def drop_channel(model: nn.Module) -> None:
    """Let a network take grey pictures or sequences as [B, H, W], which a batch holds [B, 1, H, W].

    Sequences [N, T, F] are read as pictures of one channel.
    """
    setattr(model, _MARK, True)
    model.register_forward_pre_hook(lambda module, args: (args[0].squeeze(1), *args[1:]))


def give_outputs(model: nn.Module, example: Any, expected: tuple[int, ...]) -> Any:
    """Pass an example through, and let the network give outputs of the expected shape.

    It may give them as `.logits`, or a single one without its axis: [B] for [B, 1]. For two
    classes it may give one logit z, that of the second: then the outputs are (0, z). Return what
    it gives now.
    """
    out = model(example)
    if getattr(model, _ADAPTED, False):  # a network that danlu trained before
        return out
    changes = _changes(out, expected)
    if changes:
        setattr(model, _ADAPTED, True)
    for change in changes:
        model.register_forward_hook(change)
        out = change(model, (), out)
    return out


def fits(model: nn.Module, example: Any, expected: tuple[int, ...]) -> bool:
    """Return whether a network takes an example, and its outputs can be given as expected."""
    try:
        out = model(example)
        for change in _changes(out, expected):
            out = change(model, (), out)
    except Exception:  # anyone's code may raise anything
        return False
    return isinstance(out, Tensor) and tuple(out.shape) == expected


_MARK, _ADAPTED = "_danlu_inputs", "_danlu_outputs"  # of modules that have our hooks already
Change = Callable[[nn.Module, Any, Any], Any]


def _changes(out: Any, expected: tuple[int, ...]) -> list[Change]:
    changes: list[Change] = []
    logits = _logits_of(out)
    if logits is not None:
        changes.append(lambda module, args, given: _logits_of(given))
        out = logits
    if not isinstance(out, Tensor) or len(expected) != 2:
        return changes
    n, outputs = expected
    if tuple(out.shape) == (n,) and outputs <= 2:
        # A single example may have lost its axis as well.
        changes.append(lambda module, args, given: given.reshape(-1, 1))
        out = out.unsqueeze(1)
    if tuple(out.shape) == (n, 1) and outputs == 2:
        changes.append(lambda module, args, given: torch.cat([torch.zeros_like(given), given], 1))
    return changes


def _logits_of(out: Any) -> Any:
    """Return `.logits` of an output object, as Hugging Face's models give them."""
    if isinstance(out, Tensor):
        return None
    if isinstance(out, Mapping):
        return out.get("logits")
    return getattr(out, "logits", None)


def are_probabilities(out: Tensor) -> bool:
    """Whether outputs [B, K] look like those of a softmax, where logits are expected."""
    if out.ndim != 2 or out.shape[1] < 2 or bool((out < 0).any()):
        return False
    sums: list[float] = out.sum(1).tolist()
    return all(math.isclose(total, 1, abs_tol=1e-4) for total in sums)
