"""What every probe must find, computed naively: one network, plain PyTorch, NumPy in float64.

A case is what the engine knows at a measured update, of one network: its weights before and after,
the gradients of the step. All else is computed here.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.layers import dropout_source
from danlu.nn.protocols import has_sequence_loss, is_stateful
from danlu.nn.recurrent import Recurrent
from danlu.recipe import Recipe
from danlu.rng import stream

Tensors = dict[str, Tensor]
Array = np.ndarray[Any, Any]


@dataclass
class Case:
    """A measured update of one network; x, y: the sample, P examples of two halves."""

    recipe: Recipe
    model: nn.Module
    step: int
    x: Tensor
    y: Tensor
    before: Tensors
    after: Tensors
    gradient: Tensors
    """Of the step's loss, before penalties and clipping."""
    clipped: Tensors
    lr: float
    examples: float
    """The m of the penalties."""
    halves: list[Pass] = field(default_factory=list)

    def network(self, weights: Tensors) -> nn.Module:
        """A network with those weights, that overwrites nothing."""
        network = copy.deepcopy(self.model)
        network.load_state_dict(weights)
        for module in network.modules():
            if getattr(module, "inplace", False):
                module.inplace = False
        return network

    @property
    def size(self) -> int:
        """Examples of a half."""
        return len(self.x) // 2


@dataclass
class Pass:
    """A pass of a half: what layers gave, gradients by that, and by weights."""

    loss: float
    outputs: dict[str, Tensor]
    output_gradients: dict[str, Tensor]
    inputs: dict[str, Tensor]
    input_gradients: dict[str, Tensor]
    gradients: Tensors


def loss_of(network: nn.Module, recipe: Recipe, x: Tensor, y: Tensor, last_only: bool) -> Tensor:
    """The training loss, by PyTorch's own functions."""
    if has_sequence_loss(network):
        weights = torch.full((len(x),), 1.0, dtype=torch.float64)
        targets = (y >= 0).sum()
        y = y.clamp_min(0)
        loss, _ = network.sequence_loss(x, y, weights / targets)  # type: ignore[operator]
        return loss  # type: ignore[no-any-return]
    out = network(x)
    if is_stateful(network):
        out = out[0]
    if isinstance(out, tuple):  # auxiliary classifiers come behind
        own, *others = out
        losses = [F.cross_entropy(o, y) for o in others]
        pairs = zip(network.auxiliary_weights, losses, strict=True)  # type: ignore[arg-type]
        return F.cross_entropy(own, y) + sum(w * loss for w, loss in pairs)
    if not y.is_floating_point():
        out, y = out.flatten(0, -2), y.clone()
        if last_only and y.ndim == 2:
            for row in y:
                row[: int((row >= 0).nonzero()[-1])] = -1
        return F.cross_entropy(
            out, y.flatten(), ignore_index=-1, label_smoothing=_smoothing(recipe, out.shape[1])
        )
    return F.mse_loss(out[:, 0], y)


def _smoothing(recipe: Recipe, classes: int) -> float:
    # PyTorch gives ε/K to every class, the right one included.
    return recipe.loss.label_smoothing * classes / (classes - 1)


def passed(case: Case, network: nn.Module, x: Tensor, y: Tensor, last_only: bool = False) -> Pass:
    """Pass examples forward and backward in training mode."""
    outputs, inputs, calls = {}, {}, {}

    def on_output(name: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            key = name if calls[name] == 1 else f"{name}:{calls[name]}"
            first = out[0] if isinstance(out, tuple) else out
            if first.requires_grad:
                first.retain_grad()
                outputs[key] = first

        return hook

    def on_input(name: str) -> Any:
        def hook(module: nn.Module, args: Any) -> Any:
            key = name if name not in calls else f"{name}:{calls[name] + 1}"
            # Another layer may see it, too: of interest is what this one does with it.
            inputs[key] = args[0].clone()
            inputs[key].retain_grad()
            return (inputs[key], *args[1:])

        return hook

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, Recurrent):
            handles.append(module.register_forward_pre_hook(on_input(name)))
        if not list(module.children()):
            handles.append(module.register_forward_hook(on_output(name)))
    network.zero_grad()
    loss = loss_of(network, case.recipe, x, y, last_only)
    loss.backward()  # type: ignore[no-untyped-call]
    for handle in handles:
        handle.remove()
    return Pass(
        float(loss),
        {name: out.detach() for name, out in outputs.items()},
        {name: out.grad for name, out in outputs.items() if out.grad is not None},
        {name: x.detach() for name, x in inputs.items()},
        {name: x.grad for name, x in inputs.items() if x.grad is not None},
        {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None},
    )


def in_training(case: Case, weights: Tensors, halves: int, last_only: bool = False) -> list[Pass]:
    """Pass the first halves in turn, with the masks of the step."""
    network = case.network(weights).train()
    passes = []
    with dropout_source(stream(case.recipe.seed, "dropout", case.step)):
        for k in range(halves):
            some = slice(k * case.size, (k + 1) * case.size)
            passes.append(passed(case, network, case.x[some], case.y[some], last_only))
    return passes


def flat(tensors: Tensors) -> Array:
    """All values in a row, float64, in the order of their names."""
    return np.concatenate([tensors[name].double().numpy().ravel() for name in sorted(tensors)])


def weights_of(tensors: Tensors, like: Tensors) -> Tensors:
    """The trainable ones."""
    return {name: tensors[name] for name in like}


def matrices(tensors: Tensors) -> Tensors:
    """Those that penalties and decay act on."""
    return {name: t if t.ndim >= 2 else torch.zeros_like(t) for name, t in tensors.items()}
