"""When weights change: after every step, or after several whose gradients are averaged (gradient accumulation).

So a large batch is trained on in parts that fit the memory: with the same numbers, up to rounding, unless batch
normalisation looks at each part by itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from danlu.train.forward.stack import Stack


class GradientAccumulator:
    """Updates after every `every` steps, and at the end of an epoch. Legend: M networks."""

    def __init__(self, steps: int, every: int) -> None:
        self.steps, self.every = steps, every
        self.updates_per_epoch = -(-steps // every)
        self.held: Tensor | None = (
            None  # Σ n·gradient of the steps since the last update, a vector of the stack's layout
        )
        self.seen: Tensor | None = None  # Σ n [M, 1], n what a batch counts

    def updates(self, k: int) -> int:
        """Updates before the one that step k = 0, 1, … belongs to."""
        return (
            k
            if self.every == 1
            else k // self.steps * self.updates_per_epoch + k % self.steps // self.every
        )

    def start(self, stack: Stack) -> None:
        """Begin with nothing gathered."""
        if self.every > 1:
            self.held, self.seen = (
                torch.zeros_like(stack.theta),
                stack.theta.new_zeros(stack.members, 1),
            )

    @torch.no_grad()
    def gather(self, stack: Stack, n: Any, k: int) -> bool:
        """Add the gradient of step k; whether it is time for an update, for which the mean then stands in its place.

        n: what the batch counts, a number or [M or 1, 1].
        """
        assert self.held is not None and self.seen is not None
        n = torch.as_tensor(n, dtype=self.seen.dtype, device=self.seen.device).expand_as(self.seen)
        self.seen += n
        pairs = list(zip(stack.blocks(self.held), stack.blocks(stack.grad), strict=True))
        for (held, _), (g, _) in pairs:
            held.addcmul_(g, n)
        if (k % self.steps + 1) % self.every and (k + 1) % self.steps:
            return False
        for (held, _), (g, _) in pairs:
            torch.div(held, self.seen.clamp_min(1e-30), out=g)
        self.held.zero_()
        self.seen.zero_()
        return True

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return (
            {}
            if self.held is None or self.seen is None
            else {"held": self.held, "held.seen": self.seen}
        )
