"""In what order a training part is gone through: decided by a seed and the number of the epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from danlu.data import Data
from danlu.data.vocabulary import PAD
from danlu.recipe import Recipe
from danlu.rng import stream

Draw = Callable[[torch.Generator], Tensor]  # of places in the training part
_POOL = 50  # batches whose examples are sorted by length together


@dataclass(frozen=True)
class EpochOrder:
    """The order of the examples in each epoch.

    indices: from (seed, epoch) to places in the training part, batch after batch. examples: how
    many there are in an epoch.
    """

    indices: Callable[[int, int], Tensor]
    examples: int


def epoch_order(recipe: Recipe, data: Data, has_batch_norm: bool) -> EpochOrder:
    """Return the order that a recipe asks for.

    has_batch_norm: then a last batch of one example, which it cannot take, is left out.
    """
    batch_size = recipe.batch_size
    n = data.size("train")
    if recipe.model.stateful:
        return contiguous_lanes(n, batch_size)
    examples = n
    if has_batch_norm and n % batch_size == 1:
        examples = n - 1
    draw = shuffle_of(n)
    if recipe.sample.balanced:
        draw = balanced_draw(data.y[data.parts["train"]])
    if data.schema.is_text and data.schema.task != "language":
        tokens = data.x[data.parts["train"]]  # [examples, T]
        lengths = (tokens != PAD).sum(1)  # [examples]
        return bucketed_by_length(lengths, batch_size, examples, draw)
    return shuffled(draw, examples)


def shuffled(draw: Draw, examples: int) -> EpochOrder:
    """Return a new draw in every epoch, cut to so many examples."""

    def indices(seed: int, epoch: int) -> Tensor:
        generator = stream(seed, "order", epoch)
        return draw(generator)[:examples]

    return EpochOrder(indices, examples)


def shuffle_of(n: int) -> Draw:
    """Return a draw of n examples, each once."""

    def draw(generator: torch.Generator) -> Tensor:
        return torch.randperm(n, generator=generator)

    return draw


def balanced_draw(labels: Tensor) -> Draw:
    """Return a draw with replacement in which all classes of the labels [n] are equally frequent.

    To within one example, as many as there are labels.
    """
    n = len(labels)
    by_class = labels.argsort(stable=True)
    counts = torch.bincount(labels)
    counts = counts[counts > 0]
    starts = counts.cumsum(0) - counts
    class_of = torch.arange(n) % len(counts)

    def draw(generator: torch.Generator) -> Tensor:
        # In float64: of more than 2²⁴ examples float32 would reach only some.
        u = torch.rand(n, generator=generator, dtype=torch.float64)
        place = (u * counts[class_of]).long()
        drawn = by_class[starts[class_of] + place]
        return drawn[torch.randperm(n, generator=generator)]

    return draw


def contiguous_lanes(n: int, batch_size: int) -> EpochOrder:
    """Return windows in `batch_size` lanes, each going on where its last window ended.

    A stateful network needs that. The windows that are left over lie at the beginning and the end,
    distributed anew in every epoch.
    """
    steps = n // batch_size
    used = steps * batch_size
    left_over = n - used
    # Lane i reads the i-th stretch of the text.
    lanes = torch.arange(batch_size) * steps

    def indices(seed: int, epoch: int) -> Tensor:
        generator = stream(seed, "order", epoch)
        first = int(torch.randint(left_over + 1, (), generator=generator))
        step = torch.arange(steps).unsqueeze(1)  # [steps, 1]
        windows = first + step + lanes  # [steps, lanes]
        return windows.flatten()

    return EpochOrder(indices, used)


def bucketed_by_length(lengths: Tensor, batch_size: int, examples: int, draw: Draw) -> EpochOrder:
    """Return draws in which examples of similar length share a batch, so that little is padded.

    Examples are sorted within pools of batches. examples: how many are used, the last of an epoch
    left out.
    """
    n = len(lengths)
    whole = n // batch_size
    in_full_batches = whole * batch_size

    def indices(seed: int, epoch: int) -> Tensor:
        generator = stream(seed, "order", epoch)
        order = draw(generator)
        pools = []
        for pool in order.split(batch_size * _POOL):
            by_length = lengths[pool].argsort(stable=True)
            pools.append(pool[by_length])
        order = torch.cat(pools)
        # Short batches must not all come first, so the batches are shuffled once more.
        full = order[:in_full_batches].view(whole, batch_size)
        shuffle = torch.randperm(whole, generator=generator)
        full = full[shuffle]  # [batches, B]
        rest = order[in_full_batches:]
        all_of_epoch = torch.cat([full.flatten(), rest])
        return all_of_epoch[:examples]

    return EpochOrder(indices, examples)
