"""Batches of the training part: a batch is an index, gathered a few batches at a time and normalised as one.

Where the data come from disk, a second thread gathers one stretch ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from danlu.data import Augmenter, Data, Normalizer
from danlu.streams import stream

_BYTES = 1 << 20  # of normalised input per stretch: stays in the second-level cache beside the network

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
        """Places in the training part in the order of that epoch."""
        return torch.randperm(len(self.index), generator=stream(self.seed, "order", epoch))[: self.examples]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """(x [1, B, …], y [1, B]) of each step from `start` on, normalised and augmented."""
        first = start // self.stretch
        order = self.index[self.order(epoch)]
        targets = self.y.index_select(0, order.to(self.device)).unsqueeze(0).split(self.batch_size, 1)
        inputs = self._inputs(order.split(self.stretch * self.batch_size)[first:])
        step, augment = epoch * self.steps, self.augment
        plain = not (augment.moves or augment.noise)
        for k, x in enumerate(inputs, first * self.stretch):
            if k >= start:
                yield x if plain else self._augmented(x[0], step + k).unsqueeze(0), targets[k]

    def _inputs(self, stretches: tuple[Tensor, ...]) -> Iterator[Tensor]:
        """The batches of each stretch."""
        for stretch in self._ahead(stretches) if self.mapped else map(self._gather, stretches):
            yield from stretch.unsqueeze(0).split(self.batch_size, 1)

    def _ahead(self, stretches: tuple[Tensor, ...]) -> Iterator[Tensor]:
        """Gather each stretch while the one before it is trained on: pays where the data come from disk.

        In memory a gather is cheaper than handing its result from core to core.
        """
        if not stretches:  # resumed at the very end of an epoch
            return
        with ThreadPoolExecutor(1) as other:
            pending = other.submit(self._gather, stretches[0])
            for following in stretches[1:]:
                now, pending = pending, other.submit(self._gather, following)
                yield now.result()
            yield pending.result()

    def _gather(self, index: Tensor) -> Tensor:
        """A stretch, already normalised unless pixels are still to be moved."""
        if not self.mapped:
            index = index.to(self.device)
        # index_select: several times the speed of x[index]
        x = self.x.index_select(0, index).to(self.device)
        return x if self.augment.moves else self.normalizer(x)

    def _augmented(self, x: Tensor, step: int) -> Tensor:
        """The batch, its changes drawn from the stream of that step."""
        g = stream(self.seed, "augment", step)
        if self.augment.moves:
            x = self.normalizer(self.augment.move(x.to(self.normalizer.scale.dtype), g))
        return self.augment.add_noise(x, g)
