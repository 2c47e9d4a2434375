"""Batches of the training part: a batch is an index, gathered a few batches at a time, then normalised as one.

What does not fit in memory is gathered one stretch ahead by a second thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from danlu.data import Augmenter, Data, Normalizer
from danlu.streams import stream

_BYTES = 2 << 20  # of normalised input per stretch: fits the second-level cache with room for the network

Batch = tuple[Tensor, Tensor]


class Batches:
    """The shuffled training part, epoch after epoch; the order of an epoch depends on seed and epoch alone."""

    def __init__(
        self,
        data: Data,
        normalizer: Normalizer,
        batch_size: int,
        seed: int,
        augment: Augmenter,
        device: torch.device,
        dtype: torch.dtype,
        whole_only: bool = False,
    ) -> None:
        self.index = data.parts["train"]
        self.seed, self.batch_size, self.augment, self.device = seed, batch_size, augment, device
        self.normalizer = normalizer
        self.mapped = data.mapped
        # Data that fit move to the device once; mapped data stay on disk.
        self.x = data.x if data.mapped else data.x.to(device)
        mean, spread = data.schema.scale
        self.y = (((data.y - mean) / spread).to(dtype) if data.schema.task == "regression" else data.y).to(device)
        n = len(self.index)
        # Batch normalisation cannot take a batch of one: such a remainder is left out of that epoch.
        self.examples = n - 1 if whole_only and n % batch_size == 1 else n
        self.steps = -(-self.examples // batch_size)
        row = max(1, data.x[0].numel()) * dtype.itemsize
        self.stretch = max(1, _BYTES // (row * batch_size))  # batches

    def order(self, epoch: int) -> Tensor:
        """Indices into the data in the order of that epoch."""
        n = len(self.index)
        return self.index[torch.randperm(n, generator=stream(self.seed, "order", epoch))][: self.examples]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """(x, y) of each step from `start` on, normalised and augmented."""
        first = start // self.stretch
        stretches = self.order(epoch).split(self.stretch * self.batch_size)[first:]
        step = epoch * self.steps + first * self.stretch
        skip = start - first * self.stretch
        for raw, y in self._gathered(stretches):
            for x, target in self._finish(raw, y, step):
                if skip:
                    skip -= 1
                else:
                    yield x, target
            step += self.stretch

    def _gather(self, index: Tensor) -> Batch:
        if not self.mapped:
            index = index.to(self.device)
        # index_select: several times the speed of x[index]
        return self.x.index_select(0, index).to(self.device), self.y.index_select(0, index.to(self.device))

    def _gathered(self, stretches: tuple[Tensor, ...]) -> Iterator[Batch]:
        if not self.mapped:
            yield from map(self._gather, stretches)
            return
        with ThreadPoolExecutor(1) as ahead:
            pending = ahead.submit(self._gather, stretches[0])
            for following in stretches[1:]:
                now, pending = pending, ahead.submit(self._gather, following)
                yield now.result()
            yield pending.result()

    def _finish(self, raw: Tensor, y: Tensor, step: int) -> Iterator[Batch]:
        targets = y.split(self.batch_size)
        if not (self.augment.moves or self.augment.noise):
            yield from zip(self.normalizer(raw).split(self.batch_size), targets, strict=True)
            return
        for k, (x, target) in enumerate(zip(raw.split(self.batch_size), targets, strict=True), step):
            g = stream(self.seed, "augment", k)
            moved = self.augment.move(x.to(self.normalizer.scale.dtype), g) if self.augment.moves else x
            yield self.augment.add_noise(self.normalizer(moved), g), target
