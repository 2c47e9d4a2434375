"""How well entities are found: precision, recall and F1 of whole entities, all at once and by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from danlu.data import Data, Schema
from danlu.data.sources.tagged import spans

Span = tuple[int, int, str]


@dataclass(frozen=True)
class EntityCounts:
    """Entities that are there (`true`), that were told (`told`), and that were told rightly, both ends and kind (`right`)."""

    true: int
    told: int
    right: int

    @property
    def precision(self) -> float:
        """Share of those told that are right."""
        return self.right / self.told if self.told else 0.0

    @property
    def recall(self) -> float:
        """Share of those there that were told."""
        return self.right / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.right / (self.true + self.told) if self.right else 0.0


def lengths(data: Data, index: Tensor) -> list[int]:
    """Tokens of each example."""
    return [int(n) for n in (data.y[index] >= 0).sum(1)]


def _sentences(
    guess: Tensor, true: Tensor, sizes: Sequence[int], schema: Schema
) -> Iterator[tuple[set[Span], set[Span]]]:
    """Of each sentence the entities that are there, and those that were told."""
    names, at = schema.classes, 0
    guesses, truths = guess.tolist(), true.tolist()
    for n in sizes:
        yield tuple(
            set(spans([names[k] for k in of[at : at + n]], schema.scheme))
            for of in (truths, guesses)
        )  # type: ignore[misc]
        at += n


def found(guess: Tensor, true: Tensor, sizes: Sequence[int], schema: Schema) -> dict[str, EntityCounts]:
    """By kind of entity, and of all under "all". guess, true: tag numbers of sentences of these sizes, in a row [n]."""
    there, told, right = Counter[str](), Counter[str](), Counter[str]()
    for own, other in _sentences(guess, true, sizes, schema):
        for counter, some in ((there, own), (told, other), (right, own & other)):
            counter.update(kind for *_, kind in some)
            counter["all"] += len(some)
    return {
        k: EntityCounts(there[k], told[k], right[k])
        for k in ["all", *sorted((there | told).keys() - {"all"})]
    }


def interval(
    guess: Tensor, true: Tensor, sizes: Sequence[int], schema: Schema, draws: int = 2000
) -> tuple[float, float]:
    """95 % interval of F1 by the bootstrap over sentences (percentiles; Efron 1979), the same whenever it is asked for."""
    told = [(len(a), len(b), len(a & b)) for a, b in _sentences(guess, true, sizes, schema)]
    counts, n, g = (
        torch.tensor(told, dtype=torch.float64),
        len(told),
        torch.Generator().manual_seed(0),
    )
    sums = [counts[torch.randint(n, (n,), generator=g)].sum(0) for _ in range(draws)]
    there, given, right = torch.stack(sums).unbind(1)
    f1 = 2 * right / (there + given).clamp_min(1)
    low, high = f1.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high
