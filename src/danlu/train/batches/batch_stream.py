"""What a population eats: a batch for each data order among its networks, and the sample weights of each network.

Legend: M networks, S orders (networks that share seed, epoch, normalisation and augmentation share batches), B examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from danlu.data import Augmenter, Data, Normalizer
from danlu.data.sources.text import trim_padding
from danlu.recipe import Recipe
from danlu.train.batches.batches import Batches
from danlu.train.batches.order import arrangement

Step = tuple[
    Tensor, Tensor, Tensor | None
]  # x [S, B, …], y [S, B] or [S, B, T], how often each example counts [M, B]
Look = tuple[str, str]


class BatchStream:
    """Batches of every order that a group of recipes asks for."""

    def __init__(self, recipes: Sequence[Recipe], data: Data, device: torch.device) -> None:
        first = recipes[0]
        dtype = first.weights_dtype
        normed = first.normed or ":" in first.model.name
        self.normalizers: dict[str, Normalizer] = {}
        self.looks: dict[Look, Batches] = {}
        for r in recipes:
            if r.normalize not in self.normalizers:
                self.normalizers[r.normalize] = data.normalizer(r.normalize).to(device, dtype)
            if look(r) not in self.looks:
                augment, normalizer = (
                    Augmenter(**r.augment.model_dump()),
                    self.normalizers[r.normalize],
                )
                order = arrangement(r, data, normed)
                self.looks[look(r)] = Batches(
                    data, normalizer, r.batch_size, augment, device, dtype, order
                )
        self.text, self.source = data.schema.is_text, data.schema.source
        self.steps = next(iter(self.looks.values())).steps

    def segments(self, recipes: Sequence[Recipe], epochs: Sequence[int]) -> list[tuple[int, int]]:
        """Networks a…z of each batch in turn, where each is in that epoch of its own; sorted by kind, then epoch."""
        return stretches([(kind(r), e) for r, e in zip(recipes, epochs, strict=True)])

    def epoch(
        self, recipes: Sequence[Recipe], epochs: Sequence[int], start: int, counts: Tensor | None
    ) -> Iterator[Step]:
        """The steps of an epoch from `start` on; counts [M, examples]."""
        segments = self.segments(recipes, epochs)
        firsts = [recipes[a] for a, _ in segments]
        orders = [(r.order_seed, epochs[a]) for r, (a, _) in zip(firsts, segments, strict=True)]
        weights: list[Tensor | None] = [None] * (self.steps - start)
        if counts is not None:
            own = [
                self.looks[look(r)].order(o).to(counts.device)
                for r, o in zip(firsts, orders, strict=True)
            ]
            whole = torch.cat(
                [counts[a:z].index_select(1, o) for (a, z), o in zip(segments, own, strict=True)]
            )
            weights = list(whole.split(recipes[0].batch_size, 1)[start:])
        alike = stretches([look(r) for r in firsts])
        streams = [self.looks[look(firsts[a])].epoch(orders[a:z], start) for a, z in alike]
        if len(streams) == 1:
            pairs = streams[0]
        else:
            joined = (zip(*several, strict=True) for several in zip(*streams, strict=True))
            pairs = ((torch.cat(xs), torch.cat(ys)) for xs, ys in joined)
        if self.text:
            pairs = (trim_padding(x, y, self.source) for x, y in pairs)
        yield from ((x, y, w) for (x, y), w in zip(pairs, weights, strict=True))


def look(r: Recipe) -> Look:
    """What decides how an example looks to a network."""
    return r.normalize, repr(r.augment)


def kind(r: Recipe) -> tuple[Look, int]:
    """What decides an order of examples and how they look; populations are sorted by it."""
    return look(r), r.order_seed


def stretches(keys: Sequence[object]) -> list[tuple[int, int]]:
    """a…z of each stretch of equal keys."""
    starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
    return list(zip(starts, [*starts[1:], len(keys)], strict=True))
