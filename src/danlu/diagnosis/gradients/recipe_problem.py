"""The engine's own gradients of a recipe: explicit passes, penalties, auxiliary losses and all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from danlu.data import Data
from danlu.diagnosis.gradients.checking import GradientCheck, check_gradients
from danlu.guest import guest
from danlu.nn import penalties
from danlu.recipe import Recipe
from danlu.recipe.build import build_model
from danlu.runs import Run
from danlu.train.batches import BatchStream
from danlu.train.dispatch.fit import make_population
from danlu.train.dispatch.preflight import check

_EXAMPLES = 16  # of the batch that the loss is taken on


class RecipeProblem:
    """A recipe's loss on a batch, with its penalties, and what the engine takes for its gradient.

    network: with the weights to check at. Masks are those of the first step.
    """

    def __init__(self, recipe: Recipe, data: Data, network: nn.Module) -> None:
        size = min(_EXAMPLES, recipe.batch_size, data.size("train"))
        self.recipe = recipe = recipe.with_(batch_size=size, dtype="float64", accumulate=1)
        self.examples = data.size("train")
        device = torch.device("cpu")
        batches = BatchStream([recipe], data, device)

        def build(recipe: Recipe) -> nn.Module:
            return network.double()

        self.population = make_population([recipe], build, data, batches, device)
        population = self.population
        self.batch = next(batches.epoch([recipe], [0], 0, population.networks.counts))
        population.set_batch_layout(self.batch.segments)
        self.buffers = {name: b.clone() for name, b in population.stack.buffers.items()}
        learnt = {name for name, p in network.named_parameters() if p.requires_grad}
        found = {}
        for name, x in population.stack.tensors.items():
            if name in learnt:
                found[name] = x[0]
        self.tensors: Mapping[str, Tensor] = found

    def value(self) -> float:
        """Return the loss with its penalties."""
        with torch.no_grad():
            passed = self.population.passes.forward(*self._targets())
            loss = float(passed.objective[0])
            section = self.recipe.penalty
            for x in self.tensors.values():
                if x.ndim >= 2:
                    loss += float(penalties.l1(x, section.l1, self._m, section.eps))
                    loss += float(penalties.l2(x, section.l2, self._m))
        return loss

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients that an update would be made by, before clipping."""
        population = self.population
        with population.gradient_mode():
            population.backpropagate(*self._targets())
        with torch.no_grad():
            population.optimizer.add_penalties()
        return {name: population.stack.grads[name][0].clone() for name in self.tensors}

    @property
    def _m(self) -> int:
        return int(self.population.networks.examples_of_each(self.examples)[0])

    def _targets(self) -> tuple[Any, ...]:
        """Return what `Population.step` passes on, with streams and buffers as they were."""
        population = self.population
        with torch.no_grad():
            for name, buffer in population.stack.buffers.items():
                buffer.copy_(self.buffers[name])
        population.forward_pass.state = None
        population.set_random_streams(0)
        x, y, weights, mixed, _ = population.pass_of(self.batch)
        return x, y, weights, mixed


@guest
def gradcheck_recipe(recipe: Recipe, data: Data, seconds: float = 15.0) -> GradientCheck:
    """Check the gradients of a recipe's network at its start, as `gradcheck`."""
    check(recipe, data)
    network = build_model(recipe, data.schema)
    return check_gradients(RecipeProblem(recipe, data, network), seconds)


@guest
def gradcheck_run(run: Run, data: Data, seconds: float = 15.0) -> GradientCheck:
    """Check the gradients of a run's network at the weights that it was trained to."""
    return check_gradients(RecipeProblem(run.recipe, data, run.model()), seconds)
