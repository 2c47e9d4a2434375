"""What a loop of somebody's own does beside its steps: what it keeps, cuts and scores by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

# What squeezes outputs, by the names of PyTorch's backward functions…
_SQUEEZES = {"SoftmaxBackward0": "softmax", "SigmoidBackward0": "sigmoid", "ReluBackward0": "relu"}
# …and the losses that squeeze what they are given themselves.
_LOGITS_LOSSES = ("LogSoftmaxBackward0", "BinaryCrossEntropyWithLogitsBackward0")
# …or that compare numbers with targets, which need not lie where those can go.
_DISTANCES = ("MseLossBackward0", "SmoothL1LossBackward0", "HuberLossBackward0", "L1LossBackward0")
_BOUNDS = {
    "SoftmaxBackward0": "softmax",
    "SigmoidBackward0": "sigmoid",
    "TanhBackward0": "tanh",
}
# Functions that only arrange values.
_ARRANGES = ("View", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Permute", "Select", "Slice")
_WALKED = 40  # functions behind a loss


@dataclass
class LoopNotes:
    """What was noted; the optimiser's steps are those that were measured.

    kept, zeroed: steps whose gradients had those of the step before in them, and those whose had
    not. scored_in_training: passes without gradients in training mode. squeezed_by: what outputs go
    through before a loss that expects plain ones; bounded_by: before one of numbers. biases: their
    root mean square by layer, before the first step. norms, largest: of the whole gradient, and of
    its entries, at each step.
    """

    kept: int = 0
    zeroed: int = 0
    scored_in_training: int = 0
    squeezed_by: str | None = None
    bounded_by: str | None = None
    biases: Mapping[str, float] = field(default_factory=dict)
    norms: list[float] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)
    _watched: nn.Parameter | None = None
    _passes: int = 0  # backward ones since the last step
    _has_begun_anew: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> LoopNotes:
        """Return those of a loop that has not begun."""
        biases = {
            name: float(module.bias.detach().double().square().mean().sqrt())
            for name, module in model.named_modules()
            if isinstance(getattr(module, "bias", None), nn.Parameter)
            and not nn.parameter.is_lazy(module.bias)
        }
        return cls(biases=biases)

    def watch_backward(self, model: nn.Module) -> list[Any]:
        """Put a hook on the last parameter that learns; return what takes it off."""
        learning = [p for p in model.parameters() if p.requires_grad]
        if not learning or nn.parameter.is_lazy(learning[-1]):
            return []
        self._watched = learning[-1]
        return [self._watched.register_hook(self._on_gradient)]

    def _on_gradient(self, _: Tensor) -> None:
        """Look at what lies in a parameter's gradient before another is added."""
        assert self._watched is not None
        self._passes += 1
        if not self._has_begun_anew:
            present = self._watched.grad
            self._has_begun_anew = present is None or not bool(present.any())

    def before_update(self, gradients: Mapping[str, Tensor]) -> None:
        """Note the gradients of a step that is measured."""
        if self._passes:
            self.zeroed += self._has_begun_anew
            self.kept += not self._has_begun_anew
        if gradients:
            sizes = [(g.double().norm(), g.abs().max()) for g in gradients.values() if g.numel()]
            self.norms.append(float(torch.stack([norm for norm, _ in sizes]).norm()))
            self.largest.append(float(torch.stack([most for _, most in sizes]).max()))

    def after_update(self) -> None:
        """Begin another step."""
        self._passes, self._has_begun_anew = 0, False

    def on_pass(self, module: nn.Module) -> None:
        """Note a pass of the whole network."""
        self.scored_in_training += module.training and not torch.is_grad_enabled()

    def on_loss(self, loss: object) -> None:
        """Note what a loss is of."""
        if isinstance(loss, Tensor):
            self.squeezed_by = self.squeezed_by or before_loss(loss, _LOGITS_LOSSES, _SQUEEZES)
            self.bounded_by = self.bounded_by or before_loss(loss, _DISTANCES, _BOUNDS)


def before_loss(loss: Tensor, losses: Sequence[str], squeezes: Mapping[str, str]) -> str | None:
    """Return what outputs go through before one of some losses; None where they do not.

    losses, squeezes: backward functions of PyTorch, the latter with what they are called.
    """
    waiting = [loss.grad_fn]
    for _ in range(_WALKED):
        function = waiting.pop(0) if waiting else None
        if function is None:
            continue
        behind = [f for f, _ in function.next_functions]
        if function.name() in losses:
            names = [f.name() for f in map(_past_arranging, behind) if f is not None]
            return next((squeezes[name] for name in names if name in squeezes), None)
        waiting += behind
    return None


def _past_arranging(function: Any) -> Any:
    while function is not None and function.name().lstrip("_").startswith(_ARRANGES):
        function = function.next_functions[0][0]
    return function
