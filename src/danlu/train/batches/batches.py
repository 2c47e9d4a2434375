"""Batches of the training part: a batch is an index, gathered a few batches at a time and normalised as one.

Several orders of the same examples are gathered together. Where the data come from disk, a second thread gathers one
stretch ahead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from danlu.data import Augmenter, Data, Normalizer
from danlu.data.augment import forget
from danlu.rng import stream
from danlu.train.batches.order import Arrange

_BYTES = (
    1 << 20
)  # of normalised input per stretch: stays in the second-level cache beside the network

Batch = tuple[Tensor, Tensor]
Order = tuple[int, int]  # seed, epoch: these alone decide it


class Batches:
    """The training part, normalised and augmented in one way, in any order. Legend: S orders, B examples."""

    def __init__(
        self,
        data: Data,
        normalizer: Normalizer,
        batch_size: int,
        augment: Augmenter,
        device: torch.device,
        dtype: torch.dtype,
        arrangement: tuple[Arrange, int],
    ) -> None:
        self.index = data.parts["train"]
        self.batch_size, self.augment, self.device, self.normalizer = (
            batch_size,
            augment,
            device,
            normalizer,
        )
        self.mapped = data.mapped
        # Data that fit move to the device once; mapped data stay on disk.
        self.x = data.placed(device)
        mean, spread = data.schema.scale
        self.y = (
            ((data.y - mean) / spread).to(dtype) if data.schema.task == "regression" else data.y
        ).to(device)
        self.arrange, self.examples = arrangement
        self.steps = -(-self.examples // batch_size)
        self.row = max(1, data.x[0].numel()) * dtype.itemsize

    def order(self, order: Order) -> Tensor:
        """Places in the training part in that order."""
        return self.arrange(*order)

    def epoch(self, orders: Sequence[Order], start: int = 0) -> Iterator[Batch]:
        """(x [S, B, …], y [S, B], of tokens [S, B, T]) of each step from `start` on, normalised and augmented."""
        index = torch.stack([self.index[self.order(o)].int() for o in orders])
        plain = not (self.augment.moves or self.augment.noise or self.augment.unknown)
        for k, (x, y) in enumerate(self._steps(index, start), start):
            if not plain:
                x = torch.stack(
                    [
                        self._augmented(own, seed, e * self.steps + k)
                        for own, (seed, e) in zip(x, orders, strict=True)
                    ]
                )
            yield x, y

    def _steps(self, index: Tensor, start: int) -> Iterator[Batch]:
        """x [S, B, …] and y [S, B] of each step of an index [S, examples] from `start` on, a stretch of them gathered at once."""
        size, whole = self.batch_size, index.shape[1] // self.batch_size
        many = max(1, _BYTES // (self.row * len(index) * size))
        first = (
            start // many
        )  # the same stretches as without a stop: products over one may depend on its size
        stretches = (
            list(index[:, : whole * size].unflatten(1, (whole, size)).transpose(0, 1).split(many))[
                first:
            ]
            if whole
            else []
        )
        if whole < self.steps:
            stretches.append(index[None, :, whole * size :])
        k = min(first * many, whole)
        for x, y in self._ahead(stretches) if self.mapped else map(self._gather, stretches):
            for pair in zip(x.unbind(), y.unbind(), strict=True):
                if k >= start:
                    yield pair
                k += 1

    def _ahead(self, stretches: Iterable[Tensor]) -> Iterator[Batch]:
        """Gather each stretch while the one before it is trained on: pays where the data come from disk.

        In memory a gather is cheaper than handing its result from core to core.
        """
        with ThreadPoolExecutor(1) as other:
            pending = None
            for following in stretches:
                now, pending = pending, other.submit(self._gather, following)
                if now is not None:
                    yield now.result()
            if pending is not None:
                yield pending.result()

    def _gather(self, stretch: Tensor) -> Batch:
        """x and y of a stretch [steps, S, B], x already normalised unless pixels are still to be moved."""
        index = stretch.flatten()
        there = index.to(self.device)
        # index_select: several times the speed of x[index]
        x = self.x.index_select(0, index if self.mapped else there).to(self.device)
        x = x if self.augment.moves else self.normalizer(x)
        y = self.y.index_select(0, there)
        y = y.long() if y.dtype == torch.int32 else y
        return x.unflatten(0, stretch.shape), y.unflatten(0, stretch.shape)

    def _augmented(self, x: Tensor, seed: int, step: int) -> Tensor:
        """A batch, its changes drawn from the stream of that step."""
        g = stream(seed, "augment", step)
        if self.augment.moves:
            x = self.normalizer(self.augment.move(x.to(self.normalizer.scale.dtype), g))
        if self.augment.unknown:
            x = forget(x, self.augment.unknown, g)
        return self.augment.add_noise(x, g)
