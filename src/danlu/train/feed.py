"""What a population eats: a batch for each data order among its networks, and the sample weights of each network.

Legend: M networks, S orders (networks that share seed, normalisation and augmentation share batches), B examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from danlu.data import Augmenter, Data, Normalizer
from danlu.recipe import Recipe
from danlu.train.batches import Batches

Step = tuple[Tensor, Tensor, Tensor | None]  # x [S, B, …], y [S, B], how often each example counts [M, B]


class Feed:
    """Batches of every order that a group of recipes asks for."""

    def __init__(self, recipes: Sequence[Recipe], data: Data, device: torch.device) -> None:
        first = recipes[0]
        dtype = getattr(torch, first.dtype)
        # Batch normalisation cannot take a batch of one: such a remainder is left out of that epoch.
        normed = first.model.batch_norm not in (None, "none") or ":" in first.model.name
        self.normalizers: dict[str, Normalizer] = {}
        self.kinds: dict[tuple[object, ...], Batches] = {}
        for r in recipes:
            if r.normalize not in self.normalizers:
                self.normalizers[r.normalize] = data.normalizer(r.normalize).to(device, dtype)
            if kind(r) not in self.kinds:
                augment = Augmenter(**r.augment.model_dump())
                normalizer = self.normalizers[r.normalize]
                batches = Batches(data, normalizer, r.batch_size, r.order_seed, augment, device, dtype, whole_only=normed)
                self.kinds[kind(r)] = batches
        self.steps = next(iter(self.kinds.values())).steps

    def segments(self, recipes: Sequence[Recipe], epochs: Sequence[int]) -> list[tuple[int, int]]:
        """Networks a…z of each batch in turn, where each is in that epoch of its own; sorted by kind, then epoch."""
        return stretches([(kind(r), e) for r, e in zip(recipes, epochs, strict=True)])

    def epoch(self, recipes: Sequence[Recipe], epochs: Sequence[int], start: int, counts: Tensor | None) -> Iterator[Step]:
        """The steps of an epoch from `start` on; counts [M, examples]."""
        segments = self.segments(recipes, epochs)
        sources = [(self.kinds[kind(recipes[a])], epochs[a]) for a, _ in segments]
        weights: list[Tensor | None] = [None] * (self.steps - start)
        if counts is not None:
            orders = [b.order(e).to(counts.device) for b, e in sources]
            whole = torch.cat([counts[a:z].index_select(1, o) for (a, z), o in zip(segments, orders, strict=True)])
            weights = list(whole.split(recipes[0].batch_size, 1)[start:])
        streams = [b.epoch(e, start) for b, e in sources]
        if len(streams) == 1:
            for (x, y), w in zip(streams[0], weights, strict=True):
                yield x, y, w
            return
        for several, w in zip(zip(*streams, strict=True), weights, strict=True):
            yield torch.cat([x for x, _ in several]), torch.cat([y for _, y in several]), w


def kind(r: Recipe) -> tuple[str, int, str]:
    """What decides an order of examples and what is done to them; populations are sorted by it."""
    return r.normalize, r.order_seed, repr(r.augment)


def stretches(keys: Sequence[object]) -> list[tuple[int, int]]:
    """a…z of each stretch of equal keys."""
    starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
    return list(zip(starts, [*starts[1:], len(keys)], strict=True))
