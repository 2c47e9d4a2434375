"""The batches of a population: one for each data order among its networks.

Legend: M networks, S orders (networks that share seed, epoch, normalisation and augmentation share
batches), B examples, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from danlu.data import Augmenter, Data, Normalizer
from danlu.data.text import trim_padding
from danlu.recipe import Recipe
from danlu.train.batches.loader import BatchLoader, Mix, OrderKey
from danlu.train.batches.order import epoch_order

Segments = list[tuple[int, int]]  # networks a…z of each batch in turn
InputKey = tuple[str, str]


class StepBatch(NamedTuple):
    """What a population sees in a step.

    x [S, B, …]; y [S, B] or [S, B, T]; counts [M, B]: how often each example counts. segments:
    which networks see which of the S batches. starts_epoch: whether a state carried so far ends
    here. mix: other targets that count in part; None where none do.
    """

    x: Tensor
    y: Tensor
    counts: Tensor | None
    segments: Segments
    starts_epoch: bool
    mix: Mix | None = None


class BatchStream:
    """Batches of every order that a group of recipes asks for."""

    def __init__(self, recipes: Sequence[Recipe], data: Data, device: torch.device) -> None:
        # They share a structure, so they share batch size and precision.
        first = recipes[0]
        has_batch_norm = first.has_batch_norm or first.is_imported
        self.normalizers: dict[str, Normalizer] = {}
        self.loaders: dict[InputKey, BatchLoader] = {}
        for recipe in recipes:
            kind = recipe.normalize
            if kind not in self.normalizers:
                fitted = data.normalizer(kind)
                self.normalizers[kind] = fitted.to(device, first.weights_dtype)
            key = input_key(recipe)
            if key not in self.loaders:
                self.loaders[key] = BatchLoader(
                    data,
                    normalizer=self.normalizers[kind],
                    batch_size=recipe.batch_size,
                    augment=Augmenter(**recipe.augment.model_dump()),
                    device=device,
                    dtype=first.weights_dtype,
                    order=epoch_order(recipe, data, has_batch_norm),
                )
        self.is_text = data.schema.is_text
        self.source_tokens = data.schema.source
        any_loader = next(iter(self.loaders.values()))
        self.steps = any_loader.steps

    def segments(self, recipes: Sequence[Recipe], epochs: Sequence[int]) -> Segments:
        """Return which networks share a batch, where each is in that epoch of its own.

        The networks must be sorted by `batch_key`, then by epoch.
        """
        keys = []
        for recipe, epoch in zip(recipes, epochs, strict=True):
            keys.append((batch_key(recipe), epoch))
        return runs_of_equal(keys)

    def epoch(
        self,
        recipes: Sequence[Recipe],
        epochs: Sequence[int],
        start: int = 0,
        counts: Tensor | None = None,
    ) -> Iterator[StepBatch]:
        """Yield the steps of an epoch from `start` on; counts [M, examples]."""
        segments = self.segments(recipes, epochs)
        firsts = []
        keys = []
        for a, _ in segments:
            recipe = recipes[a]
            firsts.append(recipe)
            resample = recipe.sample.seed if recipe.sample.resample else None
            keys.append(OrderKey(recipe.order_seed, epochs[a], resample))

        remaining = self.steps - start
        counts_of_steps: Sequence[Tensor | None] = [None] * remaining
        if counts is not None:
            in_order = self._in_order(counts, firsts, keys, segments)
            batch_size = recipes[0].batch_size
            counts_of_steps = in_order.split(batch_size, 1)[start:]  # [M, B] each
        batches = self._batches(firsts, keys, start)
        steps = zip(batches, counts_of_steps, strict=True)
        for k, ((x, y, mix), counts_of_step) in enumerate(steps, start):
            if self.is_text:
                x, y = trim_padding(x, y, self.source_tokens)
            yield StepBatch(x, y, counts_of_step, segments, k == 0, mix)

    def _in_order(
        self,
        counts: Tensor,
        firsts: Sequence[Recipe],
        keys: Sequence[OrderKey],
        segments: Segments,
    ) -> Tensor:
        """Return counts [M, examples] in the order in which each network sees the examples."""
        blocks = []
        for recipe, key, (a, z) in zip(firsts, keys, segments, strict=True):
            loader = self.loaders[input_key(recipe)]
            order = loader.indices(key).to(counts.device)
            of_segment = counts[a:z]
            blocks.append(of_segment.index_select(1, order))
        return torch.cat(blocks)

    def _batches(
        self,
        firsts: Sequence[Recipe],
        keys: Sequence[OrderKey],
        start: int,
    ) -> Iterator[tuple[Tensor, Tensor, Mix | None]]:
        """Yield (x, y) of each step, the orders of all loaders in a row, and what is mixed in."""
        input_keys = [input_key(recipe) for recipe in firsts]
        streams = []
        # Orders that look alike are gathered in one go.
        for a, z in runs_of_equal(input_keys):
            loader = self.loaders[input_keys[a]]
            keys_of_run = keys[a:z]
            streams.append(loader.epoch(keys_of_run, start))
        if len(streams) == 1:
            yield from streams[0]
            return
        for batches in zip(*streams, strict=True):
            xs, ys, mixes = zip(*batches, strict=True)
            yield torch.cat(xs), torch.cat(ys), _joined(mixes, ys)


def _joined(mixes: Sequence[Mix | None], ys: Sequence[Tensor]) -> Mix | None:
    """Return the mixes of all orders in a row; orders without one keep their targets whole."""
    if not any(mixes):
        return None
    like = next(mix for mix in mixes if mix is not None)
    whole = []
    for mix, y in zip(mixes, ys, strict=True):
        if mix is None:
            places = torch.arange(y.shape[1], device=y.device).expand(y.shape)
            mix = Mix(y, places, like.weight.new_ones(len(y)))
        whole.append(mix)
    return Mix(*(torch.cat(columns) for columns in zip(*whole, strict=True)))


def input_key(recipe: Recipe) -> InputKey:
    """Return what decides how an example looks to a network."""
    return recipe.normalize, repr(recipe.augment)


def batch_key(recipe: Recipe) -> tuple[InputKey, int, int]:
    """Return what decides an order of examples and how they look; populations are sorted by it."""
    resample = recipe.sample.seed if recipe.sample.resample else -1
    return input_key(recipe), recipe.order_seed, resample


def runs_of_equal(keys: Sequence[object]) -> Segments:
    """Return a…z of each run of equal keys."""
    runs = []
    start = 0
    for i in range(1, len(keys) + 1):
        is_end = i == len(keys)
        if is_end or keys[i] != keys[start]:
            runs.append((start, i))
            start = i
    return runs
