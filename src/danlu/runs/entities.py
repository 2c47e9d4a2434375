"""How well entities are found: precision, recall and F1 of whole entities, all at once and by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from danlu.data import Data, Schema
from danlu.data.tagged import spans


@dataclass(frozen=True)
class Found:
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


def found(guess: Tensor, true: Tensor, sizes: Sequence[int], schema: Schema) -> dict[str, Found]:
    """By kind of entity, and of all under "all". guess, true: tag numbers of sentences of these sizes, in a row [n]."""
    there, told, right = Counter[str](), Counter[str](), Counter[str]()
    at = 0
    names = schema.classes
    guesses, truths = guess.tolist(), true.tolist()
    for n in sizes:
        own = spans([names[k] for k in truths[at : at + n]], schema.scheme)
        other = spans([names[k] for k in guesses[at : at + n]], schema.scheme)
        for counter, some in ((there, own), (told, other), (right, set(own) & set(other))):
            counter.update(kind for *_, kind in some)
            counter["all"] += len(some)
        at += n
    return {k: Found(there[k], told[k], right[k]) for k in ["all", *sorted((there | told).keys() - {"all"})]}
