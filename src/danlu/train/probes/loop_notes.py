"""What a loop of somebody's own does beside its steps: what it keeps, cuts and scores by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from danlu.nn.layers import Dropout
from danlu.train.probes.guest_hooks import GuestHooks

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
# What squeezes outputs, by the names of PyTorch's backward functions…
_SQUEEZES = {"SoftmaxBackward0": "softmax", "SigmoidBackward0": "sigmoid", "ReluBackward0": "relu"}
# …the losses that squeeze what they are given themselves…
_LOGITS_LOSSES = ("LogSoftmaxBackward0", "BinaryCrossEntropyWithLogitsBackward0")
# …and what lies between and only arranges or casts.
_ARRANGES = {
    "View",
    "UnsafeView",
    "Squeeze",
    "Unsqueeze",
    "Reshape",
    "Transpose",
    "T",
    "Permute",
    "Select",
    "Slice",
    "Index",
    "Expand",
    "Clone",
    "Alias",
    "ToCopy",
}
_WALKED = 40  # functions behind a loss


@dataclass
class LoopNotes:
    """What was noted; steps are those that were measured.

    kept, zeroed: steps whose gradients had those of the step before in them, and those whose had
    not; lost: those whose gradients were zero again by the update. scored_in_training: epochs at
    whose end examples passed in training mode, through something that is another then, and were
    scored. squeezed_by: what outputs go through before a loss of logits; has_seen_loss: whether a
    loss showed what it is made of. biases: their root mean square by layer, before the first step.
    rates: the learning rate by step. norms, largest, at_largest: of the gradient at each step its
    norm, its largest entry, and how many of its entries are as large.
    """

    kept: int = 0
    zeroed: int = 0
    lost: int = 0
    scored_in_training: int = 0
    squeezed_by: str | None = None
    has_seen_loss: bool = False
    biases: Mapping[str, float] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)
    norms: list[float] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)
    at_largest: list[float] = field(default_factory=list)
    is_measured: bool = True  # the present step
    _watched: nn.Parameter | None = None
    _has_some: bool = False  # the watched parameter, of a gradient before the pass
    _passes: int = 0  # backward ones since the last update
    _backward: int = 0  # such ones since the last step
    _has_begun_anew: bool = False
    _gave_some: bool = False  # of the backward passes
    _in_training: int = 0  # passes since the last step
    _in_evaluation: int = 0

    @classmethod
    def of(cls, model: nn.Module) -> LoopNotes:
        """Return those of a loop that has not begun."""
        biases = {
            name: float(module.bias.detach().double().square().mean().sqrt())
            for name, module in model.named_modules()
            if isinstance(getattr(module, "bias", None), nn.Parameter)
            and not nn.parameter.is_lazy(module.bias)
            and module.bias.is_floating_point()
        }
        return cls(biases=biases)

    def watch_backward(self, optimizer: torch.optim.Optimizer, hooks: GuestHooks) -> list[Any]:
        """Put hooks on the last parameter of an optimiser; return what takes them off."""
        learning = [p for group in optimizer.param_groups for p in group["params"]]
        learning = [p for p in learning if p.requires_grad and not nn.parameter.is_lazy(p)]
        if not learning:
            return []
        watched = self._watched = learning[-1]
        before = hooks.made(self._on_gradient, "a gradient")
        after = hooks.made(self._on_accumulated, "a gradient")
        return [
            watched.register_hook(before),
            watched.register_post_accumulate_grad_hook(after),
        ]

    def _on_gradient(self, gradient: Tensor) -> None:
        """Look at what lies in a parameter's gradient before another is added."""
        if self.is_measured:
            self._gave_some |= bool((gradient.to_dense() != 0).any())
        if self.is_measured and self._watched is not None:
            present = self._watched.grad
            self._has_some = present is not None and bool((present.to_dense() != 0).any())

    def _on_accumulated(self, _: Tensor) -> None:
        """Note that it was added: what is asked for by `autograd.grad` is not."""
        self._passes += 1
        self._backward += 1
        self._has_begun_anew |= not self._has_some

    def on_gradients(
        self, step: int, optimizer: torch.optim.Optimizer, gradients: Iterable[Tensor]
    ) -> None:
        """Note the gradients of a step that is measured."""
        rate = optimizer.param_groups[0].get("lr")
        self.rates[step] = math.nan if rate is None else float(rate)
        if self._passes:
            self.zeroed += self._has_begun_anew
            self.kept += not self._has_begun_anew
        gradients = list(gradients)
        self.lost += self._gave_some and not any(bool(g.any()) for g in gradients)
        known = [g.detach().abs().double() for g in gradients if g.numel()]
        if known:
            most = max(float(g.max()) for g in known)
            equal = sum(int((g >= (1 - 1e-3) * most).sum()) for g in known)
            self.norms.append(sum(float(g.square().sum()) for g in known) ** 0.5)
            self.largest.append(most)
            self.at_largest.append(equal / sum(g.numel() for g in known))

    def after_update(self) -> None:
        """Begin another step."""
        self._passes, self._has_begun_anew, self._gave_some = 0, False, False

    def after_step(self) -> None:
        """Forget the passes of a step: those by which it gives itself labels, too."""
        self._backward = 0
        self._in_training = self._in_evaluation = 0

    def on_pass(self, module: nn.Module) -> None:
        """Note a pass of the whole network."""
        if _is_another_in_training(module):
            self._in_training += 1
        else:
            self._in_evaluation += 1

    def on_epoch(self, has_scored: bool) -> None:
        """Note by what passes an epoch was scored, if it was."""
        # Batches that wait for an update have a backward pass each.
        in_training = self._in_training - self._backward
        self.scored_in_training += has_scored and in_training > 0 and not self._in_evaluation
        self.after_step()

    def on_loss(self, loss: object) -> None:
        """Note what a loss is of."""
        self.has_seen_loss |= isinstance(loss, Tensor) and loss.grad_fn is not None
        if self.squeezed_by is None and isinstance(loss, Tensor):
            self.squeezed_by = squeezed_before_loss(loss)


def dropout_of(module: nn.Module) -> float:
    """Return the share of units that a layer itself drops in training."""
    if isinstance(module, (Dropout, nn.modules.dropout._DropoutNd)):
        return float(module.p)
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return float(module.dropout)
    return 0.0


def _is_another_in_training(model: nn.Module) -> bool:
    """Whether something in a network answers in training mode as it would not in evaluation."""
    for module in model.modules():
        if module.training and dropout_of(module) > 0:
            return True
        if module.training and isinstance(module, BATCH_NORMS) and module.track_running_stats:
            return True
    return False


def squeezed_before_loss(loss: Tensor) -> str | None:
    """Return what squeezes outputs before a loss of logits does; None where nothing does."""
    waiting = [loss.grad_fn]
    for _ in range(_WALKED):
        if not waiting:
            break
        function = waiting.pop(0)
        if function is None:
            continue
        if function.name() in _LOGITS_LOSSES:
            name = _name_past_arranging(function.next_functions[0][0])
            return _SQUEEZES.get(name)
        waiting += [behind for behind, _ in function.next_functions]
    return None


def _name_past_arranging(function: Any) -> str:
    while function is not None:
        name = str(function.name())
        if name.lstrip("_").partition("Backward")[0] not in _ARRANGES:
            return name
        function = function.next_functions[0][0]
    return ""
