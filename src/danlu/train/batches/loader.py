"""Batches of the training part.

A batch is an index, gathered a few batches at a time and normalised as one. Several orders of the
same examples are gathered together. Where the data come from disk, a second thread gathers one
block of batches ahead.

Legend: S orders, B examples of a batch, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from danlu.data import Augmenter, Data, Normalizer
from danlu.data.augment import mixture
from danlu.data.target_scale import standardised
from danlu.data.text import word_dropout
from danlu.recipe.example_sections import Sample
from danlu.recipe.sample import resampled
from danlu.rng import stream
from danlu.train.batches.order import EpochOrder

# Normalised input gathered at once: it stays in the second-level cache beside the network.
_BLOCK_BYTES = 1 << 20

Batch = tuple[Tensor, Tensor]


class Mix(NamedTuple):
    """Targets that are mixed into those of a batch.

    y [S, B]: of the partners, partner [S, B]: their places in the batch; weight [S]: λ, what the
    batch's own targets count.
    """

    y: Tensor
    partner: Tensor
    weight: Tensor


class OrderKey(NamedTuple):
    """What decides an order: seed and epoch; resample: the seed of a training part drawn anew."""

    seed: int
    epoch: int
    resample: int | None = None


class BatchLoader:
    """The training part, normalised and augmented in one way, in any order."""

    def __init__(
        self,
        data: Data,
        normalizer: Normalizer,
        batch_size: int,
        augment: Augmenter,
        device: torch.device,
        dtype: torch.dtype,
        order: EpochOrder,
    ) -> None:
        self.index = data.parts["train"]
        self.batch_size = batch_size
        self.augment = augment
        self.normalizer = normalizer
        self.device = device
        measured = data.schema.is_measured
        self.is_measured = None
        if measured and not all(measured):
            self.is_measured = torch.tensor(measured, device=device)
        self.order = order
        self._resampled: dict[int, Tensor] = {}
        # Data that fit move to the device once; mapped data stay on disk.
        self.mapped = data.mapped
        self.x = data.on_device(device)
        self.y = data.y
        if data.schema.is_regression:
            self.y = standardised(data.y, data.schema).to(dtype)
        self.y = self.y.to(device)
        # The last batch of an epoch may be smaller.
        self.steps = math.ceil(order.examples / batch_size)
        values_per_example = max(1, data.x[0].numel())
        self.bytes_per_example = values_per_example * dtype.itemsize

    def indices(self, key: OrderKey) -> Tensor:
        """Return the places in the training part in that order."""
        places = self.order.indices(key.seed, key.epoch)
        if key.resample is None:
            return places
        return self._drawn(key.resample)[places]

    def _drawn(self, seed: int) -> Tensor:
        """Return the examples of a training part that was drawn anew; the same for every epoch."""
        if seed not in self._resampled:
            drawn = resampled(Sample(resample=True, seed=seed), len(self.index))
            assert drawn is not None
            self._resampled[seed] = drawn
        return self._resampled[seed]

    def epoch(
        self, keys: Sequence[OrderKey], start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor, Mix | None]]:
        """Yield (x [S, B, …], y [S, B], of tokens [S, B, T]) of each step from `start` on.

        With them what is mixed into the targets.
        """
        orders = []
        for key in keys:
            # int32 halves what an index takes of the cache.
            orders.append(self.index[self.indices(key)].int())
        index = torch.stack(orders)  # [S, examples]
        augment = self.augment
        changes = augment.moves or augment.noise or augment.word_dropout or augment.cutout
        for k, (x, y) in enumerate(self._steps(index, start), start):
            streams = [(key.seed, key.epoch * self.steps + k) for key in keys]
            if changes:
                augmented = []
                for of_order, (seed, step) in zip(x, streams, strict=True):
                    augmented.append(self._augmented(of_order, seed, step))
                x = torch.stack(augmented)
            if augment.mixup:
                x, mix = self._mixed(x, y, streams)
                yield x, y, mix
            else:
                yield x, y, None

    def _mixed(
        self, x: Tensor, y: Tensor, streams: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Mix]:
        """Return examples mixed with others of their batch, and what that does to the targets."""
        mixed, partners, weights = [], [], []
        for of_order, (seed, step) in zip(x, streams, strict=True):
            generator = stream(seed, "mixup", step)
            weight, partner = mixture(self.augment.mixup, len(of_order), generator)
            partner = partner.to(x.device)
            mixed.append(weight * of_order + (1 - weight) * of_order[partner])
            partners.append(partner)
            weights.append(weight)
        partner = torch.stack(partners)  # [S, B]
        weight_of_each = torch.tensor(weights, dtype=x.dtype, device=x.device)
        return torch.stack(mixed), Mix(y.gather(1, partner), partner, weight_of_each)

    def _steps(self, index: Tensor, start: int) -> Iterator[Batch]:
        """Yield x [S, B, …] and y [S, B] of each step of an index [S, examples] from `start` on."""
        size = self.batch_size
        orders, examples = index.shape
        whole = examples // size  # batches that are full
        bytes_per_step = self.bytes_per_example * orders * size
        at_once = max(1, _BLOCK_BYTES // bytes_per_step)
        # The same blocks as without a stop: products over one may depend on its size.
        first = start // at_once

        blocks: list[Tensor] = []
        in_full_batches = whole * size
        if whole:
            full = index[:, :in_full_batches].unflatten(1, (whole, size))  # [S, steps, B]
            step_first = full.transpose(0, 1)
            blocks += step_first.split(at_once)[first:]
        if whole < self.steps:
            smaller = index[:, in_full_batches:]  # the last batch
            blocks.append(smaller.unsqueeze(0))
        if self.mapped:
            gathered = self._gathered_ahead(blocks)
        else:
            gathered = map(self._gather, blocks)

        k = min(first * at_once, whole)
        for x, y in gathered:
            for batch in zip(x.unbind(), y.unbind(), strict=True):
                if k >= start:
                    yield batch
                k += 1

    def _gathered_ahead(self, blocks: Iterable[Tensor]) -> Iterator[Batch]:
        """Gather each block while the one before it is trained on.

        That pays off where the data come from disk: in memory a gather is cheaper than handing its
        result from core to core.
        """
        with ThreadPoolExecutor(1) as other:
            pending = None
            for block in blocks:
                ready = pending
                pending = other.submit(self._gather, block)
                if ready is not None:
                    yield ready.result()
            if pending is not None:
                yield pending.result()

    def _gather(self, block: Tensor) -> Batch:
        """Return x and y of a block [steps, S, B]; x is normalised unless pixels are to move."""
        index = block.flatten()  # [steps·S·B]
        on_device = index.to(self.device)
        # index_select is several times as fast as x[index].
        index_of_x = index if self.mapped else on_device
        x = self.x.index_select(0, index_of_x)
        x = x.to(self.device)
        if not self.augment.moves:
            x = self.normalizer(x)
        y = self.y.index_select(0, on_device)
        if y.dtype == torch.int32:
            y = y.long()  # the losses of PyTorch take no other
        x = x.unflatten(0, block.shape)
        y = y.unflatten(0, block.shape)
        return x, y

    def _augmented(self, x: Tensor, seed: int, step: int) -> Tensor:
        """Return a batch changed by the random stream of that step."""
        generator = stream(seed, "augment", step)
        if self.augment.moves:
            raw = x.to(self.normalizer.scale.dtype)
            # Before normalising: outside the picture is black, not the mean.
            moved = self.augment.move(raw, generator)
            x = self.normalizer(moved)
        if self.augment.word_dropout:
            x = word_dropout(x, self.augment.word_dropout, generator)
        x = self.augment.hide(x, generator)
        noisy = self.augment.add_noise(x, generator)
        if self.is_measured is None or noisy is x:
            return noisy
        # Indicators and numbers of levels or words are no measurements.
        return torch.where(self.is_measured, noisy, x)
