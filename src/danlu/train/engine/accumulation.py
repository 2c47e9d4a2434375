"""Gradient accumulation: weights change after several steps, whose gradients are averaged.

So a large batch is trained on in parts that fit the memory, with the same numbers up to rounding,
unless batch normalisation looks at each part by itself. Legend: M networks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from danlu.train.forward import Stack


class GradientAccumulator:
    """Averages the gradients of `steps` steps, and of what is left at the end of an epoch."""

    def __init__(self, steps_per_epoch: int, steps: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.steps = steps
        self.updates_per_epoch = math.ceil(steps_per_epoch / steps)
        # Σ n·gradient of the steps since the last update, a vector of the stack's layout, and Σ n
        # [1], where n is the examples of a batch. None where every step is an update.
        self.sum: Tensor | None = None
        self.weight: Tensor | None = None

    @property
    def is_on(self) -> bool:
        """Whether an update takes more than one step."""
        return self.steps > 1

    def updates_before(self, k: int) -> int:
        """Return how many updates come before the one that step k = 0, 1, … belongs to."""
        # Every step is an update.
        if not self.is_on:
            return k
        epoch, step = divmod(k, self.steps_per_epoch)
        in_earlier_epochs = epoch * self.updates_per_epoch
        return in_earlier_epochs + step // self.steps

    def completes(self, k: int) -> bool:
        """Whether step k = 0, 1, … is the last of an update."""
        step_of_epoch = k % self.steps_per_epoch + 1
        is_last_of_epoch = step_of_epoch == self.steps_per_epoch
        return is_last_of_epoch or step_of_epoch % self.steps == 0

    def reset(self, stack: Stack) -> None:
        """Begin with nothing added."""
        if self.is_on:
            self.sum = torch.zeros_like(stack.theta)
            self.weight = stack.theta.new_zeros(1)

    @torch.no_grad()
    def add(self, stack: Stack, n: int, k: int) -> bool:
        """Add the gradient of step k, of n examples; return whether it is time for an update.

        Then the mean stands in the gradient's place.
        """
        assert self.sum is not None and self.weight is not None
        # The mean over examples, not over steps: the last step of an epoch may be smaller.
        self.weight += n
        sums = [row.values for row in stack.param_rows(self.sum)]
        grads = [row.values for row in stack.param_rows(stack.grad)]
        for total, grad in zip(sums, grads, strict=True):
            total.add_(grad, alpha=n)

        if not self.completes(k):
            return False
        for total, grad in zip(sums, grads, strict=True):
            torch.div(total, self.weight, out=grad)
        self.sum.zero_()
        self.weight.zero_()
        return True

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        if self.sum is None or self.weight is None:
            return {}
        return {"accumulated": self.sum, "accumulated.weight": self.weight}
