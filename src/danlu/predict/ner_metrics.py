"""How well entities are found: precision, recall and F1 of whole entities, in all and by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from danlu.data import Data, Schema
from danlu.data.tags import Span, spans
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
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the true ones that were predicted."""
        return self.right / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.right / (self.true + self.predicted) if self.right else 0.0


def lengths(data: Data, index: Tensor) -> list[int]:
    """Return the tokens of each example."""
    return [int(n) for n in (data.y[index] >= 0).sum(1)]


def _entities_of_sentences(
    predicted: Tensor, true: Tensor, sizes: Sequence[int], schema: Schema
) -> Iterator[tuple[set[Span], set[Span]]]:
    """Yield the true and the predicted entities of each sentence."""
    for guess, truth in zip(predicted.split(list(sizes)), true.split(list(sizes)), strict=True):
        yield _entities(truth, schema), _entities(guess, schema)


def _entities(tags: Tensor, schema: Schema) -> set[Span]:
    return set(spans([schema.classes[k] for k in tags.tolist()], schema.scheme))


def entity_counts(
    predicted: Tensor, true: Tensor, sizes: Sequence[int], schema: Schema
) -> dict[str, EntityCounts]:
    """Return counts by kind of entity, and of all under "all".

    predicted, true: tag numbers of sentences of these sizes, in a row [n].
    """
    in_truth, in_prediction, right = Counter[str](), Counter[str](), Counter[str]()
    for truth, guess in _entities_of_sentences(predicted, true, sizes, schema):
        for counter, found in ((in_truth, truth), (in_prediction, guess), (right, truth & guess)):
            counter.update(kind for *_, kind in found)
            counter[ALL] += len(found)
    kinds = (in_truth | in_prediction).keys() - {ALL}
    return {k: EntityCounts(in_truth[k], in_prediction[k], right[k]) for k in [ALL, *sorted(kinds)]}


def f1_interval(
    predicted: Tensor, true: Tensor, sizes: Sequence[int], schema: Schema, draws: int = 2000
) -> tuple[float, float]:
    """Return the 95 % interval of F1 by the bootstrap over sentences, the same at every call."""
    pairs = _entities_of_sentences(predicted, true, sizes, schema)
    counts = [(len(truth), len(guess), len(truth & guess)) for truth, guess in pairs]

    def f1(sums: Tensor) -> Tensor:
        in_truth, in_prediction, right = sums.unbind(1)
        return 2 * right / (in_truth + in_prediction).clamp_min(1)

    return bootstrap_interval(torch.tensor(counts, dtype=torch.float64), f1, draws)
