"""Probes in anybody's training loop: hooks on the module and on the optimiser.

What needs a sample, or the network at other weights, is not measured here. Legend: B examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from danlu.errors import ModelError, wrong
from danlu.runs.measurements import WHOLE, Measurements
from danlu.train.forward.taps import RECURRENT, tapped_layers
from danlu.train.probes.layer_value import unit_axes
from danlu.train.probes.loop_notes import LoopNotes
from danlu.train.probes.moment import LayerSums
from danlu.train.probes.schedule import EARLY
from danlu.train.probes.table import probes_at
from danlu.train.probes.taps import LayerTap

Tensors = dict[str, Tensor]
_KEPT = 16  # examples of a batch


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
        if every < 1:
            raise ModelError(wrong("every", every, "must be at least 1", "try 100"))
        self.model = model
        self.every = every
        self.found = Measurements()
        self.notes = LoopNotes.of(model)
        self.losses: list[Tensor] = []  # of each step
        self.epochs = 0
        self.inputs: Tensor | None = None  # some of the last batch that was measured
        self.batch_size: int | None = None
        self.optimizer = optimizer
        self._modules = tapped_layers(model)
        self._units_before = unit_axes(model)
        self._tap: LayerTap | None = None
        self._before: Tensors = {}
        self._gradients: Tensors = {}
        self._after: Tensors = {}
        self._handles: list[Any] = []
        self._sums_at_start = {
            name: _sums_of(p) for name, p in model.named_parameters() if not nn.parameter.is_lazy(p)
        }
        self.updates = 0

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return len(self.losses)

    def start(self) -> None:
        """Put hooks on module and optimiser."""
        add = self._handles.append
        add(self.model.register_forward_pre_hook(self._on_batch))
        for name, module in self._modules.items():
            add(module.register_forward_hook(self._hook(name)))
        if self.optimizer is not None:
            add(self.optimizer.register_step_pre_hook(self._before_update))
            add(self.optimizer.register_step_post_hook(self._after_update))
            self._handles += self.notes.watch_backward(self.optimizer)
        self._prepare()

    def stop(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def step(self, loss: Tensor | float) -> None:
        """Note the end of a step, with its loss."""
        own = torch.as_tensor(loss).detach().float().reshape(())
        if self._tap is not None:
            self.notes.on_loss(loss)
            self._keep(self._tap, own)
        self.losses.append(own)
        self._prepare()

    def _prepare(self) -> None:
        """Look at the coming step, if it is one to be measured."""
        is_due = self.steps in EARLY or self.steps % self.every == 0
        self._tap = LayerTap(self._modules, self._units_before, "light", 1) if is_due else None
        self.notes.is_measured = is_due
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

    def _on_batch(self, module: nn.Module, args: Any) -> None:
        """Note how many examples are passed."""
        self.notes.on_pass(module)
        if not args or not isinstance(args[0], Tensor) or not args[0].ndim:
            return
        if self._tap is not None and _is_of_step(module):
            self._tap.half_size = args[0].size(0)
            self.batch_size = max(args[0].size(0), self.batch_size or 0)
            # What takes several inputs cannot be asked again by one of them.
            self.inputs = args[0].detach()[:_KEPT].clone() if len(args) == 1 else None

    def _hook(self, name: str) -> Any:
        def look(module: nn.Module, args: Any, out: Any) -> None:
            tap = self._tap
            if tap is None or not _is_of_step(module):
                return
            if isinstance(module, RECURRENT) and isinstance(out, tuple):
                out = out[0]
            if not isinstance(out, Tensor) or not out.is_floating_point():
                return
            with torch.no_grad():
                tap.value(name, "output", out.unsqueeze(0))
            if out.requires_grad:
                out.register_hook(lambda g: tap.gradient(name, "output", g.unsqueeze(0)))

        return look

    def _before_update(self, *_: Any) -> None:
        if self._tap is not None:
            self._before = dict(self._trainable())
            self._gradients = {
                name: p.grad.detach().to_dense().clone()
                for name, p in self.model.named_parameters()
                if p.grad is not None
            }
            assert self.optimizer is not None
            self.notes.before_update(self.optimizer, self._gradients.values())

    def _after_update(self, *_: Any) -> None:
        self.updates += 1
        self.notes.after_update()
        if self._tap is not None:
            self._after = dict(self._trainable())

    def _trainable(self) -> Iterator[tuple[str, Tensor]]:
        for name, p in self.model.named_parameters():
            if p.requires_grad:
                yield name, p.detach().clone()

    def _keep(self, tap: LayerTap, loss: Tensor) -> None:
        """Keep what was found in this step."""
        figures: dict[str, dict[str, Tensor]] = {WHOLE: {"step_loss": loss.unsqueeze(0)}}
        figures |= tap.figures(1)
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
            layers.setdefault(name.rpartition(".")[0] or name, []).append(name)
        found = {}
        for layer, names in layers.items():
            weights = [name for name in names if self._before[name].ndim >= 2]
            found[layer] = self._sum(weights or names)
        return found

    def _sum(self, names: list[str]) -> LayerSums:
        totals = [torch.zeros(1, dtype=torch.float64) for _ in range(4)]
        values = 0
        for name in names:
            before = self._before[name].double()
            # A parameter that the loss does not reach has no gradient.
            gradient = self._gradients.get(name, torch.zeros_like(before)).double()
            change = self._after[name].double() - before
            parts = (before.square(), gradient.square(), change.square(), gradient == 0)
            for total, part in zip(totals, parts, strict=True):
                total += part.sum().cpu()
            values += before.numel()
        weights, gradients, updates, zeros = totals
        return LayerSums(weights, gradients, updates, zeros, values)


def _is_of_step(module: nn.Module) -> bool:
    """Whether a pass belongs to a step: one in evaluation mode, or without gradients, does not."""
    return module.training and torch.is_grad_enabled()


@torch.no_grad()
def _sums_of(p: Tensor) -> tuple[float, float]:
    """Return what tells whether a parameter has changed, without a copy of it."""
    return float(p.detach().double().sum()), float(p.detach().double().norm())
