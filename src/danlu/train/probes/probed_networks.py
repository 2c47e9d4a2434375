"""A copy of a population's networks, on which probes look at whatever they like.

Whatever a pass does there, the networks in training do not change by a bit.

Legend: M networks, S samples, P examples, n targets, K outputs and classes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.predict.scores import hits
from danlu.train.batches.targets import tokens_in_a_row
from danlu.train.engine.backpropagation import Backpropagation
from danlu.train.engine.population import Population
from danlu.train.engine.random_streams import seed_of_step, set_mask_streams
from danlu.train.forward import ForwardPass, MemberLayout
from danlu.train.forward.chain import Chain
from danlu.train.forward.choice import dropout_columns
from danlu.train.forward.modules import SingleForward, VmapForward
from danlu.train.forward.taps import ModuleTaps, Side, Tap, tap_chain
from danlu.train.probes.moment import Evaluated, Sums
from danlu.train.probes.sample import ProbeSample

_MOST_CLASSES = 50  # of which each has a figure


class Targets(NamedTuple):
    """Targets [M or 1, n], and what each counts in the loss; None where that is the mean."""

    y: Tensor
    weights: Tensor | None


class _Switch:
    """Passes on to a tap while there is one."""

    def __init__(self) -> None:
        self.tap: Tap | None = None

    def value(self, layer: str, side: Side, value: Tensor) -> None:
        if self.tap is not None:
            self.tap.value(layer, side, value)

    def gradient(self, layer: str, side: Side, gradient: Tensor) -> None:
        if self.tap is not None:
            self.tap.gradient(layer, side, gradient)


class ProbedNetworks:
    """The networks' copy, with taps on its layers."""

    def __init__(self, population: Population) -> None:
        self.spec = population.spec
        self.recipes = population.recipes
        self.is_imported = population.is_imported
        self.members = population.members
        self.model = copy.deepcopy(population.model)
        self.stack = population.stack.select(torch.arange(self.members))
        if self.members == 1:
            self.stack.bind(self.model)
        self.sums = Sums(self.stack)
        self.layout = MemberLayout(self.members, [(0, self.members)])
        self.switch = _Switch()
        self.taps: ModuleTaps | None = None
        self.forward_pass = self._tapped(population)
        self.passes = Backpropagation.of(
            self.model, self.forward_pass, population.loss, self.stack.theta.dtype
        )
        self.frozen_layers = _same_layers(population, self.model)
        self.model.eval()

    def _tapped(self, population: Population) -> ForwardPass:
        """Return the population's way of passing, with taps."""
        p = dropout_columns(population.networks.dropout_p, self.spec.device)
        if isinstance(population.forward_pass, Chain):
            columns = population.forward_pass.columns
            stack = self.stack
            chain = Chain(
                self.model, columns, self.layout, stack.tensors, stack.grads, p, in_order=True
            )
            tap_chain(chain, self.switch)
            return chain
        self.taps = ModuleTaps(self.model, self.switch, copies=self.is_imported)
        if self.members > 1:
            return VmapForward(self.model, self.layout, self.stack, population.precision, p)
        return SingleForward(self.model, self.layout, self.stack, population.precision)

    @torch.no_grad()
    def take(self, population: Population) -> None:
        """Take the weights and buffers that the networks have now."""
        self.stack.theta.copy_(population.stack.theta)
        for name, buffer in self.stack.buffers.items():
            buffer.copy_(population.stack.buffers[name])

    def set_streams(self, steps: Sequence[int]) -> None:
        """Draw masks from the streams of those steps, from their beginning."""
        set_mask_streams(self.layout, self.recipes, steps)
        if self.is_imported and isinstance(self.forward_pass, SingleForward):
            self.forward_pass.seed = seed_of_step(self.recipes[0], steps[0])

    def targets(self, sample: ProbeSample, last_only: bool = False) -> Targets:
        """Return the targets of a sample; last_only: of each text the last alone counts."""
        y = sample.y
        if len(sample.segments) > 1:
            y = self.per_member(y, sample)
        counts = None
        if y.ndim == 3:
            if last_only:
                y = _last_target(y)
            y, counts = tokens_in_a_row(y, None, self.stack.theta.dtype)
        class_weights = self.spec.class_weights
        if class_weights is None and counts is None:
            return Targets(y, None)
        weights = torch.ones_like(y, dtype=self.stack.theta.dtype) if counts is None else counts
        if class_weights is not None:
            weights = weights * class_weights.to(weights)[y]
        return Targets(y, weights / weights.sum(1, keepdim=True))

    def per_member(self, values: Tensor, sample: ProbeSample) -> Tensor:
        """Return [S, …] as [M, …]."""
        layout = MemberLayout(self.members, sample.segments)
        return layout.per_member(values)

    def backpropagate(
        self, sample: ProbeSample, tap: Tap | None = None, last_only: bool = False
    ) -> Tensor:
        """Return the losses [M] in training mode; the gradients are in the stack."""
        self.layout.segments = sample.segments
        self.forward_pass.state = None
        self._set_mode(training=True)
        self.switch.tap = tap
        if self.taps is not None:
            self.taps.begin()
        is_chain = isinstance(self.forward_pass, Chain)
        targets = self.targets(sample, last_only)
        with torch.set_grad_enabled(not is_chain):
            passed = self.passes.forward(sample.x, *targets)
            self.passes.backward(passed)
        self.switch.tap = None
        return passed.losses.detach()

    def _set_mode(self, training: bool) -> None:
        if self.model.training != training:
            self.model.train(training)
            for layer in self.frozen_layers:
                layer.eval()

    def evaluate(self, sample: ProbeSample, classes: bool) -> Evaluated:
        """Return what the networks give in evaluation mode; classes: whether targets are."""
        self.layout.segments = sample.segments
        self.forward_pass.state = None
        self._set_mode(training=False)
        with torch.no_grad():
            heads, _ = self.forward_pass.forward(sample.x)
        out = heads[0]
        y, weights = self.targets(sample)
        losses, _ = self.passes.loss(out, y, weights)
        none = out.new_zeros(self.members, 0)
        if not classes:
            return Evaluated(losses, 1 - losses, none, none)
        chosen = heads[1] if self.passes.has_sequence_loss else out
        is_hit = hits(chosen, y).double()  # [M, n]
        shares = torch.full_like(is_hit, 1 / is_hit.shape[1])
        if weights is not None:
            counted = (weights > 0).double().expand_as(is_hit)
            shares = counted / counted.sum(1, keepdim=True)
        accuracy = (is_hit * shares).sum(1)
        outputs = out.shape[1]
        if outputs > _MOST_CLASSES or self.passes.has_sequence_loss:
            return Evaluated(losses, accuracy, none, none)
        y = y.expand(self.members, -1)
        of_examples = _cross_entropies(out, y)
        by_class = []
        for values in (of_examples, is_hit):
            by_class.append(_means_by_class(values, y, (shares > 0).double(), outputs))
        return Evaluated(losses, accuracy, *by_class)


def _cross_entropies(out: Tensor, y: Tensor) -> Tensor:
    """Return −log P of each target [M, n], for outputs [M, K, n]."""
    log_p = F.log_softmax(out, 1)
    return -log_p.gather(1, y.unsqueeze(1)).squeeze(1)


def _means_by_class(values: Tensor, y: Tensor, counted: Tensor, classes: int) -> Tensor:
    """Return the mean of values [M, n] over the targets of each class [M, K]; NaN for none."""
    sums = values.new_zeros(len(values), classes, dtype=torch.float64)
    counts = torch.zeros_like(sums)
    sums.scatter_add_(1, y, values.double() * counted)
    counts.scatter_add_(1, y, counted)
    return sums / counts


def _last_target(y: Tensor) -> Tensor:
    """Return targets [M or 1, B, T] with −1, which is none, for all but each text's last."""
    places = torch.arange(y.shape[2], device=y.device)
    last = torch.where(y >= 0, places, -1).amax(2, keepdim=True)
    return torch.where(places == last, y, -1)


def _same_layers(population: Population, model: nn.Module) -> list[nn.Module]:
    """Return the copies of the population's frozen layers."""
    frozen = {id(layer) for layer in population.frozen_layers}
    pairs: Any = zip(population.model.modules(), model.modules(), strict=True)
    return [twin for layer, twin in pairs if id(layer) in frozen]
