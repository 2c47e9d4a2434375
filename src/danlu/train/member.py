"""One network in training: its parameters in one flat vector, and the step that changes them.

Layout of the vector: the weights that decay and penalties act on first, then biases and normalisation.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from danlu.nn import penalties
from danlu.nn.layers import Dropout, noise
from danlu.nn.losses import GRADIENTS, LOSSES, balanced_weights, chosen
from danlu.optim import schedules
from danlu.optim.clip import clip_norm, clip_value
from danlu.optim.rules import RULES
from danlu.recipe import Recipe
from danlu.streams import seed_of, stream
from danlu.train import chain


class NotFinite(Exception):
    """The loss of a step is NaN or infinite; nothing was changed by that step."""


class Member:
    """A network, its gradient, and its optimiser's state; `step` trains it on one batch."""

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        input_shape: tuple[int, ...],
        examples: int,
        steps_per_epoch: int,
        class_counts: Tensor | None,
        device: torch.device,
    ) -> None:
        self.recipe, self.model, self.examples, self.per_epoch = recipe, model.to(device), examples, steps_per_epoch
        self._flatten()
        self.chain = chain.compile(model, input_shape, recipe.batch_size)
        self.rule = RULES[recipe.optimizer.name]
        self.state = self.rule.start(self.theta)
        self.hyper: dict[str, Any] = recipe.optimizer.model_dump(exclude_none=True)
        self.schedule = recipe.schedule.model_dump(exclude_none=True)
        loss = chosen(recipe.loss.name, class_counts is not None)
        self.loss, self.gradient = LOSSES[loss], GRADIENTS.get(loss)
        if self.gradient is None:
            self.chain = None  # a loss that is to be differentiated by autograd
        balanced = recipe.loss.class_weights == "balanced" and class_counts is not None
        self.class_weights = balanced_weights(class_counts).to(device, self.theta.dtype) if balanced else None  # type: ignore[arg-type]
        self.imported = ":" in recipe.model.name
        self.draws = self.imported or any(isinstance(m, Dropout) for m in model.modules())
        self.smoothing, self.decays = recipe.loss.label_smoothing, bool(recipe.optimizer.weight_decay)
        self.regularised = any(v for k, v in [*recipe.penalty, *recipe.clip] if k != "eps")
        self.steady = recipe.schedule.name == "constant" and not recipe.schedule.warmup
        model.train()

    def _flatten(self) -> None:
        """Make every parameter, and its gradient, a view into one vector."""
        named = [(k, p) for k, p in self.model.named_parameters() if p.requires_grad]
        weights = [(k, p) for k, p in named if p.ndim >= 2]
        ordered = weights + [(k, p) for k, p in named if p.ndim < 2]
        self.theta = torch.cat([p.detach().reshape(-1) for _, p in ordered]) if ordered else torch.zeros(0)
        self.grad = torch.zeros_like(self.theta)
        self.decayed = sum(p.numel() for _, p in weights)
        at = 0
        for _, p in ordered:
            n, start = p.numel(), p.detach().clone()
            for whole, name in ((self.theta, "data"), (self.grad, "grad")):
                setattr(p, name, whole[at : at + n].view(p.shape))
            p.data.copy_(start)
            at += n

    def lr(self, k: int) -> float:
        """The learning rate of step k = 0, 1, …"""
        base = self.recipe.optimizer.lr or 0.0
        if self.steady:
            return base
        s = self.recipe.schedule
        return base * schedules.factor(s.name, k, self.per_epoch, self.recipe.epochs, s.warmup, self.schedule)

    def step(self, x: Tensor, y: Tensor, k: int) -> tuple[float, Tensor]:
        """Train on one batch; the loss before the update, penalties left out, and the outputs.

        Raises NotFinite and changes nothing when the loss is no finite number.
        """
        masks = self._masks(k) if self.draws else contextlib.nullcontext()
        if self.chain is None or self.gradient is None:
            with masks:
                value, out = self._by_autograd(x, y)
            with torch.no_grad():
                self._update(k)
            return value, out
        with torch.inference_mode(), masks:
            out, kept = self.chain.forward(x)
            loss, g = self.gradient(out, y, self.smoothing, self.class_weights)
            value = _finite(loss)
            self.chain.backward(g, kept)
            self._update(k)
        return value, out

    @contextlib.contextmanager
    def _masks(self, k: int) -> Iterator[None]:
        """Randomness of step k from its own stream, also for imported modules, which draw from PyTorch's generators."""
        if not self.imported:
            with noise(stream(self.recipe.seed, "dropout", k)):
                yield
            return
        with torch.random.fork_rng(), noise(stream(self.recipe.seed, "dropout", k)):
            torch.random.manual_seed(seed_of(self.recipe.seed, "dropout", k))
            yield

    def _by_autograd(self, x: Tensor, y: Tensor) -> tuple[float, Tensor]:
        """Loss and outputs; the gradient is left in `self.grad`."""
        out = self.model(x)
        loss = self.loss(out, y, self.smoothing, self.class_weights)
        value = _finite(loss.detach())
        self.grad.zero_()
        loss.backward()
        return value, out.detach()

    def _update(self, k: int) -> None:
        if self.regularised:
            self._regularise()
        self.hyper["lr"] = self.lr(k)
        decayed = self.theta[: self.decayed] if self.decays else None
        self.rule.step(self.theta, self.grad, self.state, self.hyper, k + 1, decayed)

    def _regularise(self) -> None:
        """Add the penalties' gradients, then clip."""
        r = self.recipe
        w, g = self.theta[: self.decayed], self.grad[: self.decayed]
        if r.penalty.l2:
            g.add_(penalties.l2_gradient(w, r.penalty.l2, self.examples))
        if r.penalty.l1:
            g.add_(penalties.l1_gradient(w, r.penalty.l1, self.examples, r.penalty.eps))
        if r.clip.norm:
            clip_norm(self.grad, r.clip.norm)
        if r.clip.value:
            clip_value(self.grad, r.clip.value)

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, copied."""
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint needs to go on."""
        buffers = {f"buffer.{k}": v for k, v in self.model.named_buffers()}
        frozen = {f"frozen.{k}": p.detach() for k, p in self.model.named_parameters() if not p.requires_grad}
        return {"theta": self.theta, **{f"state.{k}": v for k, v in self.state.items()}, **buffers, **frozen}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up where `tensors` left off."""
        with torch.no_grad():
            for name, own in self.tensors().items():
                own.copy_(tensors[name])


def _finite(loss: Tensor) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise NotFinite
    return value
