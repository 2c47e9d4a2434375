"""Looks at a population around a measured update, and computes what the probes say of it.

Legend: M networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from danlu.data import Data
from danlu.runs.measurements import WHOLE
from danlu.train.batches import BatchStream
from danlu.train.engine.population import Population
from danlu.train.engine.tiles import weights_with_gradients
from danlu.train.forward.taps import is_recurrent, tapped_layers
from danlu.train.probes import curvature
from danlu.train.probes.layer_value import Tokens, unit_axes
from danlu.train.probes.moment import LayerSums, Moment, Updated
from danlu.train.probes.probed_networks import ProbedNetworks
from danlu.train.probes.recurrent import RECURRENT_EXAMPLES, RecurrentFacts, time_first
from danlu.train.probes.sample import ProbeSample, probe_sample
from danlu.train.probes.table import Level, probes_at
from danlu.train.probes.taps import Figures, InputTap, LayerTap


class PopulationObserver:
    """Looks at the networks of a population, one measured update after another.

    rows: the networks that are measured; steps: those that each has taken.
    """

    def __init__(
        self, population: Population, data: Data, batches: BatchStream, level: Level
    ) -> None:
        self.level = level
        self.sample = probe_sample(population.recipes, data, batches)
        self.classes = not data.schema.is_regression
        self.networks = ProbedNetworks(population)
        self.modules = tapped_layers(self.networks.model)
        self.units_before = unit_axes(self.networks.model)
        self.recurrent = [name for name, m in self.modules.items() if is_recurrent(m)]
        # Where every token has a loss, that at the last one alone shows how far back it reaches.
        self.looks_back = data.schema.each_token and not self.networks.passes.has_sequence_loss
        self.is_of_pairs = bool(data.schema.source)
        self.steps: list[int] = []
        self.rows: list[int] = []

    def begin(self, population: Population, steps: list[int], rows: list[int]) -> None:
        """Pass the sample through the networks as they are before the update."""
        self.steps, self.rows = steps, rows
        self.gradient: Tensor | None = None
        self.updated: Updated | None = None
        self.layers: dict[str, LayerSums] = {}
        networks, sums = self.networks, self.networks.sums
        half_size = self.sample.half_size
        self._restart(population)
        self.tap = LayerTap(self.modules, self.units_before, self.level, half_size)
        losses, gradients = [], []
        for k in (0, 1):
            half = self.sample.half(k)
            self.tap.is_first = k == 0
            self.tap.tokens = self._tokens_of(half)
            losses.append(networks.backpropagate(half, self.tap))
            gradients.append(networks.stack.grad.clone())
        self.first_gradient = gradients[0]
        self.of_recurrent = self._of_recurrent(population)
        networks.take(population)  # running statistics have moved
        self.moment = Moment(
            half_size,
            losses,
            [sums.square(gradient) for gradient in gradients],
            sums.product(*gradients),
            networks.evaluate(self.sample, self.classes),
        )
        if self.level == "full":
            first = self.sample.half(0)
            self.moment.sharpness = curvature.sharpness(networks, first, steps)
            self._restart(population)
            self.moment.spread = curvature.spread(networks, first, steps)

    def _restart(self, population: Population) -> None:
        """Have the networks as they are, with the masks of this step."""
        self.networks.take(population)
        self.networks.set_streams(self.steps)

    def _of_recurrent(self, population: Population) -> dict[str, Figures]:
        """Return what the probes of recurrent layers find, by layer."""
        if not self.recurrent:
            return {}
        tap = InputTap()
        self._restart(population)
        # Step by step through time takes long.
        first = self.sample.some(slice(0, RECURRENT_EXAMPLES))
        if first.x.is_floating_point():  # no embedding comes before, by whose output to go
            first = first._replace(x=first.x.detach().clone().requires_grad_())
        self.networks.backpropagate(first, tap, last_only=self.looks_back)
        tokens = self._tokens_of(first)
        found = {}
        for layer, value in tap.values.items():
            name = layer.partition(":")[0]
            module = self.modules[name]
            gradient = tap.gradients.get(layer) if self._reads_to_the_end(name) else None
            facts = RecurrentFacts(
                name,
                module,
                time_first(value, module),
                None if gradient is None else time_first(gradient, module),
                None if tokens is None else tokens.lengths,
                self.networks.stack,
            )
            probes = probes_at("recurrent", self.level)
            found[layer] = {probe.name: probe.measure(facts) for probe in probes}
        return found

    def _tokens_of(self, sample: ProbeSample) -> Tokens | None:
        """Return where the examples of a sample have tokens; None where they are no single text."""
        if sample.lengths is None or self.is_of_pairs:
            return None
        lengths = self.networks.per_member(sample.lengths, sample)
        return Tokens(lengths, sample.x.shape[2], self.networks.is_imported)

    def _reads_to_the_end(self, layer: str) -> bool:
        """Whether a layer's last step is that of the loss: it does not read from the end."""
        return not self.is_of_pairs and ".back." not in layer

    def before_update(self, population: Population) -> None:
        """Keep the gradient as the loss gave it."""
        self.gradient = population.stack.grad.clone()

    def end(self, population: Population, step: int) -> None:
        """Look at what penalties, clipping and the update of a step did, if there was one."""
        if self.gradient is None:
            return
        networks, stack, sums = self.networks, population.stack, self.networks.sums
        gradient = self.gradient
        weights = networks.stack.theta.clone()
        update = stack.theta - weights
        penalty = _penalty(population, weights)
        self._restart(population)
        loss_after = networks.backpropagate(self.sample.half(0))
        after = networks.stack.grad
        of_gradients, of_updates = sums.squares(gradient), sums.squares(update)
        self.updated = Updated(
            self.moment,
            gradient=of_gradients.sum(0),
            penalty=sums.square(penalty),
            penalised=sums.square(gradient + penalty),
            clipped=sums.square(stack.grad),
            update=of_updates.sum(0),
            decay=sums.square(_decay(population, weights, step)),
            promised=-sums.product(self.first_gradient, update),
            loss_after=loss_after,
            after_square=sums.square(after),
            after_product=sums.product(self.first_gradient, after),
        )
        networks.take(population)
        self._keep_finite(weights)
        zeros = sums.of(gradient == 0)
        self._sum_by_layer(sums.squares(weights), of_gradients, of_updates, zeros)

    @torch.no_grad()
    def _keep_finite(self, weights: Tensor) -> None:
        """Put back the weights from before an update that made some not finite.

        So the copy has the last weights that are known to be.
        """
        stack, sums = self.networks.stack, self.networks.sums
        is_lost = sums.of(~stack.theta.isfinite()).sum(0) > 0  # [M]
        if bool(is_lost.any()):
            pairs = zip(stack.param_rows(stack.theta), stack.param_rows(weights), strict=True)
            for own, before in pairs:
                own.values[is_lost] = before.values[is_lost]

    def _sum_by_layer(self, *of_parameters: Tensor) -> None:
        """Sum weights, gradients, updates, zeros [parameters, M] over each layer."""
        stack, sizes = self.networks.stack, self.networks.sums.sizes
        numbers: dict[str, list[int]] = {}
        for k, name in enumerate(stack.shapes):
            # A parameter of the network itself is a layer of its own.
            layer = name.rpartition(".")[0] or name
            numbers.setdefault(layer, []).append(k)
        names = list(stack.shapes)
        for layer, of_layer in numbers.items():
            weights = [k for k in of_layer if names[k] in stack.weights]
            chosen = weights or of_layer
            w, g, u, zeros = (values[chosen].sum(0) for values in of_parameters)
            self.layers[layer] = LayerSums(w, g, u, zeros, sum(sizes[k] for k in chosen))

    def figures(self) -> dict[str, Figures]:
        """Return what the probes found, by layer; that of networks as a whole first."""
        found: dict[str, Figures] = {WHOLE: {}}
        for probe in probes_at("network", self.level):
            found[WHOLE][probe.name] = probe.measure(self.moment)
        if self.updated is not None:
            for probe in probes_at("update", self.level):
                found[WHOLE][probe.name] = probe.measure(self.updated)
        found |= self.tap.figures(self.networks.members)
        for layer, sums in self.layers.items():
            of_layer = found.setdefault(layer, {})
            for probe in probes_at("weight", self.level):
                of_layer[probe.name] = probe.measure(sums)
        for layer, figures in self.of_recurrent.items():
            found.setdefault(layer, {}).update(figures)
        return found


def _penalty(population: Population, weights: Tensor) -> Tensor:
    """Return the gradient of the penalties by weights of the stack's layout."""
    stack = population.stack
    penalty = torch.zeros_like(weights)
    pairs = weights_with_gradients(stack.param_rows(weights), stack.param_rows(penalty))
    for term in population.optimizer.penalties:
        for rows, of_rows in pairs:
            of_rows.add_(term.gradient(rows, *term.arguments))
    return penalty


def _decay(population: Population, weights: Tensor, step: int) -> Tensor:
    """Return what decoupled decay takes off weights of the stack's layout in a step."""
    stack = population.stack
    shares = []
    for i, recipe in enumerate(population.recipes):
        weight_decay = recipe.optimizer.weight_decay or 0.0
        shares.append(population.lr(i, step) * weight_decay)
    decay = torch.zeros_like(weights)
    if not any(shares):
        return decay
    column = torch.tensor(shares, dtype=weights.dtype, device=weights.device)  # [M]
    views = stack.views(weights)
    for name, view in stack.views(decay).items():
        if name in stack.weights:
            trailing = (1,) * (view.ndim - 1)
            factor = stack.lr_factors.get(name, 1.0)
            view.copy_(views[name] * (factor * column).view(-1, *trailing))
    return decay
