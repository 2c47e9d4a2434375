"""In what order a training part is gone through. All of it is decided by a seed and the number of the epoch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from danlu.data import Data
from danlu.data.vocabulary import PAD
from danlu.recipe import Recipe
from danlu.rng import stream

Arrange = Callable[
    [int, int], Tensor
]  # seed, epoch → places in the training part, batch after batch
_POOL = 50  # batches whose examples are sorted by length together


def arrangement(recipe: Recipe, data: Data, whole_only: bool) -> tuple[Arrange, int]:
    """The order that a recipe asks for, and how many examples it has.

    whole_only: whether a batch of one is left out, which batch normalisation cannot take.
    """
    size, n = recipe.batch_size, data.size("train")
    if recipe.model.carry:
        return lanes(n, size), n // size * size
    examples = n - 1 if whole_only and n % size == 1 else n
    if data.schema.is_text and data.schema.task != "language":
        lengths = (data.x[data.parts["train"]] != PAD).sum(1)
        return by_length(lengths, size, examples), examples
    return lambda seed, epoch: torch.randperm(n, generator=stream(seed, "order", epoch))[
        :examples
    ], examples


def lanes(n: int, size: int) -> Arrange:
    """`size` readers side by side, each going on where its last window ended: what a carried state needs.

    The windows that are left over lie at the beginning and the end, shared out anew in every epoch.
    """
    steps = n // size

    def arrange(seed: int, epoch: int) -> Tensor:
        first = int(torch.randint(n - steps * size + 1, (), generator=stream(seed, "order", epoch)))
        return (torch.arange(steps).unsqueeze(1) + torch.arange(size) * steps + first).flatten()

    return arrange


def by_length(lengths: Tensor, size: int, examples: int) -> Arrange:
    """Shuffled, but examples of like length share a batch, so that little is padded: sorted within pools of batches.

    examples: how many are taken, the last of an epoch left out.
    """
    n = len(lengths)
    whole = n // size

    def arrange(seed: int, epoch: int) -> Tensor:
        g = stream(seed, "order", epoch)
        order = torch.randperm(n, generator=g)
        pools = [pool[lengths[pool].argsort(stable=True)] for pool in order.split(size * _POOL)]
        order = torch.cat(pools)
        batches = order[: whole * size].view(whole, size)
        return torch.cat(
            [batches[torch.randperm(whole, generator=g)].flatten(), order[whole * size :]]
        )[:examples]

    return arrange
