"""Averages of the weights over a training: exponential, or of the late epochs' ends.

One formula serves both, w̄ ← w̄ + s·(w − w̄): s is 1 − d for the exponential average (Polyak and
Juditsky 1992), and 1/n for the n-th weights of an arithmetic one (stochastic weight averaging,
Izmailov et al. 2018, algorithm 1). What buffers hold, such as running statistics, is averaged
likewise. Legend: M networks.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from danlu.recipe import Recipe
from danlu.train.forward import Snapshot, Stack


class WeightAverage:
    """w̄ of each network, laid out as the stack."""

    def __init__(self, values: Snapshot) -> None:
        self.values = values

    @classmethod
    def start(cls, stack: Stack, recipes: Sequence[Recipe]) -> WeightAverage | None:
        """Return that of networks not yet trained; None where the recipes ask for none."""
        if recipes[0].average.name == "none":
            return None
        return cls(Snapshot.of(stack, only_floats=True))

    @torch.no_grad()
    def update(
        self,
        stack: Stack,
        recipes: Sequence[Recipe],
        updates: Sequence[int],
        per_epoch: int,
    ) -> None:
        """Take in the weights after an update; updates: how many each network has had."""
        weights = []
        for recipe, n in zip(recipes, updates, strict=True):
            weights.append(weight_of(recipe, n, per_epoch))
        # Between the ends of epochs there is nothing to take in.
        if not any(weights):
            return
        s = torch.tensor(weights, dtype=torch.float64, device=stack.theta.device)  # [M]
        means = stack.param_rows(self.values.theta)
        current = stack.param_rows(stack.theta)
        for mean, now in zip(means, current, strict=True):
            column = s.to(now.values.dtype).unsqueeze(1)
            mean.values.lerp_(now.values, column)
        for name, buffer in self.values.buffers.items():
            trailing = (1,) * (buffer.ndim - 1)
            column = s.to(buffer.dtype).view(-1, *trailing)
            buffer.lerp_(stack.buffers[name], column)

    @contextlib.contextmanager
    def in_place_of_weights(self, stack: Stack) -> Iterator[None]:
        """Let the networks have their averages for weights."""
        self.values.exchange(stack)
        try:
            yield
        finally:
            self.values.exchange(stack)

    def select(self, stack: Stack, index: Tensor) -> WeightAverage:
        """Return that of some of the networks; stack: whose layout this has."""
        return WeightAverage(self.values.select(stack, index))

    def join(self, stack: Stack, other: WeightAverage, other_stack: Stack) -> WeightAverage:
        """Return that of these networks, then of those."""
        return WeightAverage(self.values.join(stack, other.values, other_stack))

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return self.values.tensors("average")


def weight_of(recipe: Recipe, n: int, per_epoch: int) -> float:
    """Return s after the n-th update of a network."""
    average = recipe.average
    if average.decay is not None:
        # At first d is smaller, so that the initial weights are forgotten.
        decay = min(float(average.decay), n / (9 + n))
        return 1 - decay
    epochs_done, steps_within = divmod(n, per_epoch)
    if steps_within:
        return 0.0
    share_left_out = average.start or 0.0
    first_epoch = math.floor(share_left_out * recipe.epochs) + 1
    # Before the first epoch that counts, the average is the weights themselves.
    averaged = max(1, epochs_done - first_epoch + 1)
    return 1 / averaged
