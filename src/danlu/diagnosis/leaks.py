"""How well a single column tells the target: what gives it away.

Legend: n examples, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

FEW_VALUES = 20  # of a column, each of which many examples have


class TellingColumn(NamedTuple):
    """The column that tells most of the target: its name, how well it does, and the next one."""

    name: str
    score: float
    next_score: float


def telling_column(
    x: Numbers, y: Numbers, column_of: Sequence[str], is_numeric: bool
) -> TellingColumn:
    """Return which column tells most of the targets y [n].

    x [n, F]; column_of: the column of each feature. is_numeric: whether targets are numbers.
    """
    features: dict[str, list[int]] = {}
    for place, name in enumerate(column_of[: x.shape[1]]):
        features.setdefault(name, []).append(place)
    scores = {}
    for name, places in features.items():
        scores[name] = _score(x[:, places], y, is_numeric)
    ranked = sorted(scores, key=lambda name: -scores[name])
    best, *others = ranked
    return TellingColumn(best, scores[best], scores[others[0]] if others else 0.0)


def _score(x: Numbers, y: Numbers, is_numeric: bool) -> float:
    """Return how well a column [n, features] tells the target.

    Of many numbers: how often examples beside each other in its order have one class; for a numeric
    target, the correlation of ranks.
    """
    _, value_of = np.unique(x, axis=0, return_inverse=True)
    if value_of.max() < FEW_VALUES or x.shape[1] > 1:
        return told_by_values(value_of.ravel(), y, is_numeric)
    order = np.argsort(x[:, 0], kind="stable")
    if not is_numeric:
        ordered = y[order]
        return float((ordered[1:] == ordered[:-1]).mean())
    return float(abs(np.corrcoef(_ranks(x[:, 0]), _ranks(y))[0, 1]))


def _ranks(values: Numbers) -> NDArray[np.int64]:
    return np.argsort(np.argsort(values))


def told_by_values(value_of: NDArray[np.int64], y: Numbers, is_numeric: bool) -> float:
    """Return how well the value that each example has [n] tells targets of examples not seen.

    The share of right classes, or R² for numbers: learnt on a half of the examples, asked of the
    other. Of a value that was not seen nothing is known but what holds for all.
    """
    is_learnt = np.random.default_rng(0).permutation(len(y)) < len(y) // 2
    learnt, asked = value_of[is_learnt], value_of[~is_learnt]
    targets, truth = y[is_learnt], y[~is_learnt]
    values = int(value_of.max()) + 1
    times = np.bincount(learnt, minlength=values)
    if is_numeric:
        sums = np.bincount(learnt, weights=targets, minlength=values)
        means = np.where(times > 0, sums / np.maximum(times, 1), targets.mean())
        error = ((means[asked] - truth) ** 2).mean()
        return float(1 - error / max(1e-12, truth.var()))
    counts = np.zeros((values, int(y.max()) + 1))
    np.add.at(counts, (learnt, targets.astype(int)), 1)
    counts[times == 0] = counts.sum(0)
    commonest = counts.argmax(1)
    return float((commonest[asked] == truth).mean())
