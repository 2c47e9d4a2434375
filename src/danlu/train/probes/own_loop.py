"""Probes in anybody's training loop: hooks on the module and on the optimiser.

What needs a sample, or the network at other weights, is not measured here. Legend: B examples.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from danlu.errors import ModelError, wrong
from danlu.runs.measurements import WHOLE, Measurements
from danlu.train.forward.taps import RECURRENT, tapped_layers
from danlu.train.probes.guest_hooks import GuestHooks
from danlu.train.probes.layer_value import unit_axes
from danlu.train.probes.loop_notes import LoopNotes
from danlu.train.probes.moment import LayerSums
from danlu.train.probes.schedule import EARLY
from danlu.train.probes.table import probes_at
from danlu.train.probes.taps import LayerTap

Tensors = dict[str, Tensor]
_KEPT = 16  # examples of a batch
_MOST_MEASURED = 400  # steps: then half of them are forgotten, and twice as many lie between
_READ = 1000  # losses at once, as reading one waits for a GPU
# Layers whose first axis is time, unless they are asked for another.
_TIME_FIRST = (
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)


class LoopMeter:
    """Measures a module at some steps of its own loop: the first few, then every so many.

    Layers are looked at in the loop's own passes in training mode; weights before and after
    `optimizer.step()`. Nothing of the training changes by a bit.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None, every: int
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ModelError(wrong("model", type(model).__name__, "must be a torch.nn.Module"))
        if not isinstance(optimizer, (torch.optim.Optimizer, type(None))):
            rule = "must be a torch.optim.Optimizer"
            raise ModelError(wrong("optimizer", type(optimizer).__name__, rule))
        if not isinstance(every, int) or every < 1:
            raise ModelError(wrong("every", every, "must be at least 1", "try 100"))
        self.model = model
        self.every = every
        self.found = Measurements()
        self.notes = LoopNotes.of(model)
        self.epochs = 0
        self.is_time_first = any(
            isinstance(m, _TIME_FIRST) and not getattr(m, "batch_first", True)
            for m in model.modules()
        )
        self.inputs: Tensor | None = None  # some of the last batch that was measured
        self.batch_size: int | None = None
        self.optimizer = optimizer
        self._modules = tapped_layers(model)
        self._units_before = unit_axes(model)
        self._tap: LayerTap | None = None
        self._before: Tensors = {}
        self._gradients: Tensors = {}
        self._after: Tensors = {}
        self._hooks = GuestHooks()
        self._losses = array("d")
        self._unread: list[Tensor] = []  # losses
        self._calls: dict[str, int] = {}  # in this pass, by layer
        self._root = type(model).__name__
        self._sums_at_start = {
            name: _sums_of(p) for name, p in model.named_parameters() if not nn.parameter.is_lazy(p)
        }
        self.updates = 0

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return len(self._losses) + len(self._unread)

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        self._read_losses()
        return self._losses.tolist()

    def start(self) -> None:
        """Put hooks on module and optimiser."""
        made, add = self._hooks.made, self._hooks.add
        on_batch = made(self._on_batch, "what the network is given")
        add(self.model.register_forward_pre_hook(on_batch, with_kwargs=True))
        for name, module in self._modules.items():
            look = made(partial(self._on_output, name), f"the layer {name or self._root}")
            add(module.register_forward_hook(look))
        if self.optimizer is not None:
            before = made(self._before_update, "weights before an update")
            after = made(self._after_update, "an update")
            add(self.optimizer.register_step_pre_hook(before))
            add(self.optimizer.register_step_post_hook(after))
            add(*self.notes.watch_backward(self.optimizer, self._hooks))
        self._prepare()

    def stop(self) -> None:
        """Take the hooks off."""
        self._hooks.remove()

    def resting(self) -> AbstractContextManager[None]:
        """Look at nothing: what passes now is no part of the training."""
        return self._hooks.resting()

    def step(self, loss: Tensor | float) -> None:
        """Note the end of a step, with its loss."""
        own = torch.as_tensor(loss).detach().float().reshape(())
        if self._tap is not None:
            self.notes.on_loss(loss)
            self._hooks.call(self._keep, "a step", self._tap, own)
        self._unread.append(own)
        if len(self._unread) >= _READ:
            self._read_losses()
        self.notes.after_step()
        self._prepare()

    def epoch(self, has_scored: bool) -> None:
        """Note the end of an epoch; has_scored: whether it gives a figure of held-out examples."""
        self.epochs += 1
        self.notes.on_epoch(has_scored)
        # What passed since the last step was no part of a step.
        self._prepare()

    def _read_losses(self) -> None:
        if self._unread:
            self._losses.extend(torch.stack([loss.cpu() for loss in self._unread]).tolist())
            self._unread.clear()

    def _prepare(self) -> None:
        """Look at the coming step, if it is one to be measured."""
        is_due = self.steps in EARLY or self.steps % self.every == 0
        if is_due and self.steps // self.every >= _MOST_MEASURED:
            self.every *= 2
            self.found.forget(lambda step: step in EARLY or step % self.every == 0)
        self._tap = LayerTap(self._modules, self._units_before, "light", 1) if is_due else None
        self.notes.is_measured = is_due
        self._calls.clear()
        self._before, self._gradients, self._after = {}, {}, {}

    @property
    def unmoved(self) -> list[str]:
        """Weights that learn, but are as they were: the optimiser lacks them, or takes no step."""
        groups = [] if self.optimizer is None else self.optimizer.param_groups
        has = {id(p) for group in groups for p in group["params"]} if self.updates else set()
        found = []
        for name, p in self.model.named_parameters():
            is_left_out = p.requires_grad and p.ndim >= 2 and id(p) not in has
            if is_left_out and self._sums_at_start.get(name) == _sums_of(p):
                found.append(name)
        return found if self.optimizer is not None and self.steps else []

    @property
    def matrices(self) -> frozenset[str]:
        """Layers with more than biases and scales."""
        known = self.model.named_parameters()
        return frozenset(
            self._layer_of(name) for name, p in known if not nn.parameter.is_lazy(p) and p.ndim >= 2
        )

    def _on_batch(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Note how many examples are passed."""
        self._calls.clear()
        self.notes.on_pass(module)
        if self._tap is None or not _is_of_step(module):
            return
        first = next(iter((*args, *kwargs.values())), None)
        # Of one example alone the first axis is another.
        if not _is_plain(first) or first.ndim < 2:
            return
        self._tap.half_size = max(1, first.size(0))
        if not self.is_time_first:
            self.batch_size = max(first.size(0), self.batch_size or 0)
        # What takes several inputs, or some by name, cannot be asked again by one of them.
        is_alone = len(args) == 1 and not kwargs
        self.inputs = first.detach()[:_KEPT].clone() if is_alone else None

    def _on_output(self, name: str, module: nn.Module, args: Any, out: Any) -> None:
        tap = self._tap
        if tap is None or not _is_of_step(module):
            return
        if isinstance(module, RECURRENT) and isinstance(out, tuple):
            out = out[0]
        # An empty batch says nothing.
        if not _is_plain(out) or not out.is_floating_point() or not out.numel():
            return
        calls = self._calls[name] = self._calls.get(name, 0) + 1
        layer = name if calls == 1 else f"{name}:{calls}"
        with torch.no_grad():
            tap.value(layer, "output", out.unsqueeze(0))
        if out.requires_grad:
            look = partial(_show_gradient, tap, layer)
            out.register_hook(self._hooks.made(look, f"the gradient of {layer}"))

    def _before_update(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._tap is not None:
            self._before = dict(self._updated())
            # A closure has its gradients only when it was called.
            if not args and not kwargs:
                self._note_gradients()

    def _after_update(self, *_: Any) -> None:
        self.updates += 1
        if self._tap is not None:
            if not self._gradients:
                self._note_gradients()
            self._after = dict(self._updated())
        self.notes.after_update()

    def _note_gradients(self) -> None:
        self._gradients = {
            name: p.grad.detach().to_dense().clone()
            for name, p in self.model.named_parameters()
            if p.grad is not None
        }
        assert self.optimizer is not None
        self.notes.on_gradients(self.steps, self.optimizer, self._gradients.values())

    def _updated(self) -> Iterator[tuple[str, Tensor]]:
        """Return copies of the parameters that learn, but for those of another optimiser."""
        assert self.optimizer is not None
        has = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        for name, p in self.model.named_parameters():
            if p.requires_grad and id(p) in has:
                yield name, p.detach().clone()

    def _keep(self, tap: LayerTap, loss: Tensor) -> None:
        """Keep what was found in this step."""
        figures: dict[str, dict[str, Tensor]] = {WHOLE: {"step_loss": loss.unsqueeze(0)}}
        for layer, of_layer in tap.figures(1).items():
            # The network itself may be a layer, and has no name.
            is_root = layer.partition(":")[0] == WHOLE
            figures[f"{self._root}{layer}" if is_root else layer] = of_layer
        if self._before and self._after:
            for layer, sums in self._sums().items():
                of_layer = figures.setdefault(layer, {})
                for probe in probes_at("weight", "light"):
                    of_layer[probe.name] = probe.measure(sums)
            of_all = self._sum(list(self._before))
            figures[WHOLE] |= {
                "gradient_norm": of_all.gradients.sqrt(),
                "update_norm": of_all.updates.sqrt(),
            }
        for layer, of_layer in figures.items():
            self.found.add(layer, [0], [0], [self.steps], [float(self.epochs)], of_layer)

    def _sums(self) -> Mapping[str, LayerSums]:
        """Return squared norms by layer: of its weights, where it has some."""
        layers: dict[str, list[str]] = {}
        for name in self._before:
            layers.setdefault(self._layer_of(name), []).append(name)
        found = {}
        for layer, names in layers.items():
            weights = [name for name in names if self._before[name].ndim >= 2]
            found[layer] = self._sum(weights or names)
        return found

    def _layer_of(self, parameter: str) -> str:
        """Return the layer of a parameter: itself where it is one of the network's own."""
        layer = parameter.rpartition(".")[0]
        return layer or (self._root if WHOLE in self._modules else parameter)

    def _sum(self, names: list[str]) -> LayerSums:
        totals = [torch.zeros(1, dtype=torch.float64) for _ in range(4)]
        values = 0
        for name in names:
            before = _as_real(self._before[name])
            # A parameter that the loss does not reach has no gradient.
            gradient = self._gradients.get(name)
            gradient = torch.zeros_like(before) if gradient is None else _as_real(gradient)
            change = _as_real(self._after[name]) - before
            parts = (before.square(), gradient.square(), change.square(), gradient == 0)
            for total, part in zip(totals, parts, strict=True):
                total += part.sum().cpu()
            values += before.numel()
        weights, gradients, updates, zeros = totals
        return LayerSums(weights, gradients, updates, zeros, values)


def _is_of_step(module: nn.Module) -> bool:
    """Whether a pass belongs to a step: one in evaluation mode, or without gradients, does not."""
    return module.training and torch.is_grad_enabled()


def _is_plain(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a tensor as most are: neither sparse nor quantised."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized


def _show_gradient(tap: LayerTap, layer: str, gradient: Tensor) -> None:
    tap.gradient(layer, "output", gradient.unsqueeze(0))


def _as_real(values: Tensor) -> Tensor:
    """Return numbers as float64, of complex ones both parts."""
    return (torch.view_as_real(values) if values.is_complex() else values).double()


@torch.no_grad()
def _sums_of(p: Tensor) -> tuple[float, float]:
    """Return what tells whether a parameter has changed, without a copy of it."""
    values = _as_real(p.detach())
    return float(values.sum()), float(values.norm())
