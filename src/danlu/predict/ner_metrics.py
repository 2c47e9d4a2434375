"""How well entities are found: precision, recall and F1 of whole entities, in all and by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from danlu.data import Data, Schema
from danlu.data.tags import Span, entities_of
from danlu.statistics import bootstrap_interval

ALL = "all"  # the kind under which all entities are counted


@dataclass(frozen=True)
class EntityCounts:
    """How many entities there are, were predicted, and were predicted right, both ends and kind."""

    true: int
    predicted: int
    right: int

    @property
    def precision(self) -> float:
        """Share of the predicted ones that are right."""
        if not self.predicted:
            return 0.0
        return self.right / self.predicted

    @property
    def recall(self) -> float:
        """Share of the true ones that were predicted."""
        if not self.true:
            return 0.0
        return self.right / self.true

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        if not self.right:
            return 0.0
        return 2 * self.right / (self.true + self.predicted)


def lengths(data: Data, index: Tensor) -> list[int]:
    """Return the tokens of each example."""
    has_tag = data.y[index] >= 0  # [n, T]
    return [int(n) for n in has_tag.sum(1)]


def _entities_of_sentences(
    predicted: Tensor,
    true: Tensor,
    sizes: Sequence[int],
    schema: Schema,
) -> Iterator[tuple[set[Span], set[Span]]]:
    """Yield the true and the predicted entities of each sentence."""
    guesses = predicted.split(list(sizes))
    truths = true.split(list(sizes))
    for guess, truth in zip(guesses, truths, strict=True):
        in_truth = entities_of(truth.tolist(), schema)
        in_guess = entities_of(guess.tolist(), schema)
        yield set(in_truth), set(in_guess)


def entity_counts(
    predicted: Tensor,
    true: Tensor,
    sizes: Sequence[int],
    schema: Schema,
) -> dict[str, EntityCounts]:
    """Return counts by kind of entity, and of all under "all".

    predicted, true: tag numbers of sentences of these sizes, in a row [n].
    """
    in_truth = Counter[str]()
    in_prediction = Counter[str]()
    right = Counter[str]()
    for truth, guess in _entities_of_sentences(predicted, true, sizes, schema):
        _count(in_truth, truth)
        _count(in_prediction, guess)
        _count(right, truth & guess)
    kinds = (in_truth | in_prediction).keys() - {ALL}
    counts = {}
    for kind in [ALL, *sorted(kinds)]:
        counts[kind] = EntityCounts(in_truth[kind], in_prediction[kind], right[kind])
    return counts


def _count(counter: Counter[str], entities: set[Span]) -> None:
    counter.update(kind for *_, kind in entities)
    counter[ALL] += len(entities)


def f1_interval(
    predicted: Tensor,
    true: Tensor,
    sizes: Sequence[int],
    schema: Schema,
    draws: int = 2000,
) -> tuple[float, float]:
    """Return the 95 % interval of F1 by the bootstrap over sentences, the same at every call."""
    counts = []
    for truth, guess in _entities_of_sentences(predicted, true, sizes, schema):
        right = truth & guess
        counts.append((len(truth), len(guess), len(right)))

    def f1(sums: Tensor) -> Tensor:
        in_truth, in_prediction, right = sums.unbind(1)
        return 2 * right / (in_truth + in_prediction).clamp_min(1)

    by_sentence = torch.tensor(counts, dtype=torch.float64)  # [sentences, 3]
    return bootstrap_interval(by_sentence, f1, draws)
