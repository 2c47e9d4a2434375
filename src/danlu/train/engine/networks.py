"""The networks of a population: everything that has a row for each of them.

Legend: M networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from danlu.models.weights import matches_prefix
from danlu.nn.layers import Dropout
from danlu.optim.optimizers import State
from danlu.recipe import Recipe
from danlu.recipe.sample import example_counts
from danlu.train.engine.averages import WeightAverage
from danlu.train.forward import Stack

Build = Callable[[Recipe], nn.Module]


@dataclass(frozen=True)
class TrainingSpec:
    """What all networks of a population share.

    examples, steps_per_epoch: of the training part. classes: whether targets are classes, else
    they are numbers. class_weights [K], example_weights [examples]: see `sampling.weights_of`.
    labels [examples]: by which folds are stratified, None where there are none.
    """

    input_shape: tuple[int, ...]
    examples: int
    steps_per_epoch: int
    classes: bool
    device: torch.device
    class_weights: Tensor | None = None
    example_weights: Tensor | None = None
    labels: Tensor | None = None


@dataclass
class Networks:
    """What each network is, has learnt and remembers.

    start_steps: the population's steps before each joined. rate_drops: how often the loss of each
    stopped falling, see the schedule `plateau`. dropout_p: by layer, of each network.
    counts [M, examples]: how often each training example counts; None where each counts once.
    optimizer_state: vectors of the stack's layout; None before the first update.
    """

    recipes: list[Recipe]
    stack: Stack
    start_steps: list[int]
    rate_drops: list[int]
    dropout_p: dict[str, list[float]]
    counts: Tensor | None = None
    optimizer_state: State | None = None
    average: WeightAverage | None = None

    @classmethod
    def start(
        cls,
        recipes: Sequence[Recipe],
        others: Sequence[Recipe],
        build: Build,
        template: nn.Module,
        spec: TrainingSpec,
    ) -> Networks:
        """Return networks not yet trained.

        template: a module with every layer that any of them has; a single network's own. others:
        recipes that may join later.
        """
        is_single = len(recipes) + len(others) == 1
        if is_single:
            models = [template]
        else:
            models = [build(recipe) for recipe in recipes]
        # The stack has copies; a single network's module is bound to them by the population.
        stack = Stack(models, spec.device)

        init = recipes[0].init
        if init.lr_factor != 1:
            # Recipes of one structure agree on these, see `grouping.structure`.
            loaded = [name for name in stack.shapes if matches_prefix(name, init.prefix)]
            stack.lr_factors = dict.fromkeys(loaded, init.lr_factor)
        return cls(
            list(recipes),
            stack,
            start_steps=[0] * len(recipes),
            rate_drops=[0] * len(recipes),
            dropout_p=_dropout_probabilities(template, models),
            counts=_example_counts(recipes, spec, stack.theta.dtype),
            average=WeightAverage.start(stack, recipes),
        )

    def __len__(self) -> int:
        return len(self.recipes)

    def examples_of_each(self, examples: int) -> list[float]:
        """Return how many examples each network trains on, of so many."""
        if self.counts is None:
            return [examples] * len(self)
        totals = self.counts.sum(1)  # [M]
        return cast(list[float], totals.tolist())

    def mean_weights(self, spec: TrainingSpec) -> Tensor | None:
        """Return what a training example weighs for each network on average [M, 1].

        None where each is one target that counts once.
        """
        if self.counts is None and spec.example_weights is None:
            return None
        weights = torch.ones(spec.examples, dtype=torch.float64)
        if spec.example_weights is not None:
            weights = spec.example_weights
        if self.counts is None:
            means = weights.mean().expand(len(self))
        else:
            means = self.counts.double().cpu() @ weights / spec.examples
        theta = self.stack.theta
        return means.unsqueeze(1).to(theta.device, theta.dtype)

    def select(self, rows: list[int]) -> Networks:
        """Return some of the networks, in that order; they share nothing with these."""
        stack = self.stack
        index = torch.tensor(rows, device=stack.theta.device)
        selected = Networks(
            [self.recipes[i] for i in rows],
            stack.select(index),
            start_steps=[self.start_steps[i] for i in rows],
            rate_drops=[self.rate_drops[i] for i in rows],
            dropout_p={},
        )
        for layer, of_each in self.dropout_p.items():
            selected.dropout_p[layer] = [of_each[i] for i in rows]
        if self.counts is not None:
            selected.counts = self.counts[index]
        if self.optimizer_state is not None:
            selected.optimizer_state = {}
            for name, vector in self.optimizer_state.items():
                selected.optimizer_state[name] = stack.select_vector(vector, index)
        if self.average is not None:
            selected.average = self.average.select(stack, index)
        return selected

    def join(self, other: Networks) -> Networks:
        """Return these networks, then those of another population."""
        joined = Networks(
            self.recipes + other.recipes,
            self.stack.join(other.stack),
            start_steps=self.start_steps + other.start_steps,
            rate_drops=self.rate_drops + other.rate_drops,
            dropout_p={},
        )
        for layer, of_each in self.dropout_p.items():
            joined.dropout_p[layer] = of_each + other.dropout_p[layer]
        if self.counts is not None and other.counts is not None:
            joined.counts = torch.cat([self.counts, other.counts])
        if self.optimizer_state is not None and other.optimizer_state is not None:
            joined.optimizer_state = {}
            for name, vector in self.optimizer_state.items():
                others_vector = other.optimizer_state[name]
                both = self.stack.join_vectors(vector, other.stack, others_vector)
                joined.optimizer_state[name] = both
        if self.average is not None and other.average is not None:
            average = self.average
            joined.average = average.join(self.stack, other.average, other.stack)
        return joined


def _dropout_probabilities(
    template: nn.Module, models: Sequence[nn.Module]
) -> dict[str, list[float]]:
    """Return the p of each dropout layer of the template, for each network; 0 where it has none."""
    probabilities: dict[str, list[float]] = {}
    # A network with p = 0 has no dropout layers, so the template's are asked.
    for path, module in template.named_modules():
        if isinstance(module, Dropout):
            probabilities[path] = []
    for model in models:
        layers = dict(model.named_modules())
        for path, of_each in probabilities.items():
            layer = layers.get(path)
            of_each.append(0.0 if layer is None else layer.p)
    return probabilities


def _example_counts(
    recipes: Sequence[Recipe], spec: TrainingSpec, dtype: torch.dtype
) -> Tensor | None:
    """Return how often each training example counts for each network [M, examples]."""
    counts = [example_counts(recipe.sample, spec.examples, spec.labels) for recipe in recipes]
    # Without weights every step is cheaper, so without need there are none.
    if all(of_network is None for of_network in counts):
        return None
    once = torch.ones(spec.examples)
    rows = [once if of_network is None else of_network for of_network in counts]
    return torch.stack(rows).to(spec.device).to(dtype)
