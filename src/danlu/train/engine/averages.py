"""Averages of the weights over a training, of M networks at once: exponential, or of the late epochs' ends.

One formula serves both, w̄ ← w̄ + s·(w − w̄): s is 1 − d for the exponential average (Polyak and Juditsky 1992), and
1/n for the n-th weights of an arithmetic one (stochastic weight averaging, Izmailov et al. 2018, algorithm 1). What
buffers hold, such as running statistics, is averaged likewise.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from danlu.recipe import Recipe
from danlu.train.forward.stack import Stack


@dataclass
class WeightAverage:
    """w̄ of each network: `theta`, a vector of the stack's layout, and `rest`, its buffers of floating point by name."""

    theta: Tensor
    rest: dict[str, Tensor]

    @classmethod
    def start(cls, stack: Stack, recipes: Sequence[Recipe]) -> WeightAverage | None:
        """That of networks yet untrained; None where the recipes ask for none."""
        if recipes[0].average.name == "none":
            return None
        return cls(
            stack.theta.clone(),
            {k: v.clone() for k, v in stack.rest.items() if v.is_floating_point()},
        )

    @torch.no_grad()
    def follow(
        self, stack: Stack, recipes: Sequence[Recipe], updates: Sequence[int], per_epoch: int
    ) -> None:
        """After an update; updates: how many of them each network has had."""
        shares = [share(r, n, per_epoch) for r, n in zip(recipes, updates, strict=True)]
        if not any(shares):
            return
        s = torch.tensor(shares, dtype=torch.float64, device=self.theta.device)
        for (mean, _), (now, _) in zip(
            stack.blocks(self.theta), stack.blocks(stack.theta), strict=True
        ):
            mean.lerp_(now, s.to(now.dtype).unsqueeze(1))
        for k, mean in self.rest.items():
            mean.lerp_(stack.rest[k], s.to(mean.dtype).view(-1, *(1,) * (mean.ndim - 1)))

    @contextlib.contextmanager
    def instead(self, stack: Stack) -> Iterator[None]:
        """Within, the networks have their averages for weights."""
        self._exchange(stack)
        try:
            yield
        finally:
            self._exchange(stack)

    @torch.no_grad()
    def _exchange(self, stack: Stack) -> None:
        for mine, theirs in (
            (self.theta, stack.theta),
            *((v, stack.rest[k]) for k, v in self.rest.items()),
        ):
            held = theirs.clone()
            theirs.copy_(mine)
            mine.copy_(held)

    def only(self, stack: Stack, index: Tensor) -> WeightAverage:
        """That of the networks `index` alone; stack: whose layout this has."""
        return WeightAverage(stack.only(self.theta, index), {k: v[index] for k, v in self.rest.items()})

    def joined(self, stack: Stack, other: WeightAverage, others: Stack) -> WeightAverage:
        """That of these networks, then of those."""
        rest = {k: torch.cat([v, other.rest[k]]) for k, v in self.rest.items()}
        return WeightAverage(stack.joined(self.theta, others, other.theta), rest)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"average": self.theta, **{f"average.{k}": v for k, v in self.rest.items()}}


def share(recipe: Recipe, n: int, per_epoch: int) -> float:
    """s after the n-th update of a network."""
    a = recipe.average
    if a.decay is not None:
        return 1 - min(a.decay, n / (9 + n))
    done, within = divmod(n, per_epoch)
    first = (
        math.floor((a.start or 0.0) * recipe.epochs) + 1
    )  # epoch at whose end the average begins
    return 0.0 if within else 1 / max(1, done - first + 1)
