"""The networks of a population: everything that has a row for each of them.

Legend: M networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from danlu.optim.optimizers import State
from danlu.recipe import Recipe
from danlu.train.engine.averages import WeightAverage
from danlu.train.forward import Stack


@dataclass
class Networks:
    """What each network is, has learnt and remembers.

    start_steps: the population's steps before each joined. dropout_p: by layer, of each network.
    counts [M, examples]: how often each training example counts; None where each counts once.
    optimizer_state: vectors of the stack's layout; None before the first update.
    """

    recipes: list[Recipe]
    stack: Stack
    start_steps: list[int]
    dropout_p: dict[str, list[float]]
    counts: Tensor | None = None
    optimizer_state: State | None = None
    average: WeightAverage | None = None

    def __len__(self) -> int:
        return len(self.recipes)

    def select(self, rows: list[int]) -> Networks:
        """Return some of the networks, in that order; they share nothing with these."""
        stack = self.stack
        index = torch.tensor(rows, device=stack.theta.device)
        state = None
        if self.optimizer_state is not None:
            state = {k: stack.select_vector(v, index) for k, v in self.optimizer_state.items()}
        return Networks(
            [self.recipes[i] for i in rows],
            stack.select(index),
            [self.start_steps[i] for i in rows],
            {layer: [of_each[i] for i in rows] for layer, of_each in self.dropout_p.items()},
            None if self.counts is None else self.counts[index],
            state,
            self.average.select(stack, index) if self.average else None,
        )

    def join(self, other: Networks) -> Networks:
        """Return these networks, then those of another population."""
        counts, state, average = self.counts, self.optimizer_state, self.average
        if counts is not None and other.counts is not None:
            counts = torch.cat([counts, other.counts])
        if state is not None and other.optimizer_state is not None:
            theirs = other.optimizer_state
            state = {
                k: self.stack.join_vectors(v, other.stack, theirs[k]) for k, v in state.items()
            }
        if average and other.average:
            average = average.join(self.stack, other.average, other.stack)
        return Networks(
            self.recipes + other.recipes,
            self.stack.join(other.stack),
            self.start_steps + other.start_steps,
            {layer: p + other.dropout_p[layer] for layer, p in self.dropout_p.items()},
            counts,
            state,
            average,
        )
