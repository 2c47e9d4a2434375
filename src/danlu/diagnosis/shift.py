"""Whether two parts of the data follow one distribution, by a classifier two-sample test.

A classifier learns to tell examples of one part from those of the other, and is asked about some
that it has not seen (Lopez-Paz and Oquab 2017). Legend: n examples, F features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from danlu.data import Data
from danlu.data.vocabulary import PAD, UNK, Vocabulary
from danlu.diagnosis.cross_fitting import cross_fitted, folds, kernels
from danlu.statistics import auc_interval, holm, mean_ranks

_MOST = 500  # examples of a part
_LEAST = 30
# Classifiers of K folds share most of what they learnt from, so the variance of their scores is
# 1 + K/(K − 1) times as large (Nadeau and Bengio 2003): for five folds 2.25 times.
_WIDENING = 1.5
_CELLS = 7  # a picture is cut into so many rows and columns
_LEVEL = 0.01  # of the tests of single features
_NAMED = 3  # features
_TINY = 1e-12  # so that features that are all alike divide by nothing

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """How well inputs of two parts can be told apart: AUC with its 95 % interval.

    0.5 is not at all. features: what gives them away, the most telling first.
    """

    auc: float
    low: float
    high: float
    features: tuple[str, ...]


def shift(data: Data, first: str = "train", second: str = "test") -> Shift | None:
    """Return how well the inputs of two parts can be told apart; None where there are too few."""
    sizes = [min(_MOST, data.size(part)) for part in (first, second)]
    if min(sizes) < _LEAST:
        return None
    # As many of each, so that 0.5 is what nothing but luck would give.
    n = min(sizes)
    rows = np.concatenate([_some(data, part, n) for part in (first, second)])
    is_second = np.repeat([False, True], n)
    names, x = _features(data, rows)
    scores = _cross_fitted(_as_ranks(x), is_second)
    auc, low, high = _auc(is_second, scores)
    return Shift(auc, low, high, tuple(_telling(names, x, is_second)))


def _as_ranks(x: Numbers) -> Numbers:
    """Return features [n, F] as ranks from −1 to 1, which no outlier moves."""
    ranks = np.stack([mean_ranks(column) for column in x.T], 1)
    scaled: Numbers = 2 * (ranks - 1) / (len(x) - 1) - 1
    return scaled


def _cross_fitted(x: Numbers, is_second: NDArray[np.bool_]) -> Numbers:
    """Return scores [n] by classifiers that have not seen the example."""
    linear, gaussian = kernels(x)
    sides = np.where(is_second, 1.0, -1.0)[:, None]
    # Each fold has as many of both parts.
    fold_of = np.tile(folds(len(x) // 2), 2)
    return cross_fitted(linear + gaussian, sides, fold_of)[:, 0]


def _some(data: Data, part: str, n: int) -> NDArray[np.int64]:
    """Return n examples of a part, drawn evenly."""
    rows: NDArray[np.int64] = data.parts[part].numpy()
    return np.sort(np.random.default_rng(0).choice(rows, n, replace=False))


def _auc(is_second: NDArray[np.bool_], scores: Numbers) -> tuple[float, float, float]:
    ranks = mean_ranks(scores)[is_second]
    n = len(ranks)
    auc = float((ranks.mean() - (n + 1) / 2) / n)
    low, high = auc_interval(is_second, scores, _WIDENING)
    return (auc, auc, auc) if math.isnan(low) else (auc, low, high)


def _features(data: Data, rows: NDArray[np.int64]) -> tuple[Sequence[str], Numbers]:
    """Return names of features, and examples in these [n, F]."""
    if data.schema.is_text:
        return _tokens(data, rows)
    x = data.x[rows].numpy().astype(np.float64)
    if data.schema.is_image:
        return _cells(x)
    return data.schema.feature_names, x.reshape(len(x), -1)


def _tokens(data: Data, rows: NDArray[np.int64]) -> tuple[Sequence[str], Numbers]:
    """Return the shares of the commonest tokens in each text, and how long it is.

    Unknown tokens do not count: the vocabulary is that of the training part.
    """
    x = data.x[rows].numpy()
    counts = np.bincount(x.ravel(), minlength=data.schema.tokens)
    counts[[PAD, UNK]] = 0
    commonest = np.argsort(-counts, kind="stable")[:200]
    lengths = (x != PAD).sum(1, keepdims=True)
    known = lengths - (x == UNK).sum(1, keepdims=True)
    times = np.stack([(x == token).sum(1) for token in commonest], 1)
    learnt = Vocabulary(data.schema.vocabulary)
    names = [repr(learnt.decode([int(token)])) for token in commonest]
    return [*names, "length"], np.concatenate([times / np.maximum(known, 1), lengths], 1)


def _cells(x: Numbers) -> tuple[Sequence[str], Numbers]:
    """Return brightness and contrast of the cells of pictures [n, C, H, W], and of the whole."""
    _, channels, height, width = x.shape
    down = np.linspace(0, height, min(_CELLS, height) + 1).astype(int)
    across = np.linspace(0, width, min(_CELLS, width) + 1).astype(int)
    of_picture = (1, 2, 3)  # the axes of one
    steps_across = np.abs(np.diff(x, axis=3)).mean(of_picture)
    steps_down = np.abs(np.diff(x, axis=2)).mean(of_picture)
    names = ["contrast", "sharpness"]
    columns = [x.std(of_picture), steps_across + steps_down]
    for c in range(channels):
        names.append("brightness" if channels == 1 else f"brightness of channel {c}")
        columns.append(x[:, c].mean((1, 2)))
    for top, bottom in pairwise(down):
        for left, right in pairwise(across):
            cell = x[:, :, top:bottom, left:right]
            names.append(f"pixels {top}–{bottom - 1} × {left}–{right - 1}")
            columns.append(cell.mean(of_picture))
    return names, np.stack(columns, 1)


def _telling(names: Sequence[str], x: Numbers, is_second: NDArray[np.bool_]) -> list[str]:
    """Return the features whose values alone are shown to differ, the most telling first."""
    from scipy.stats import mannwhitneyu

    varied = [i for i in range(x.shape[1]) if np.ptp(x[:, i]) > 0]
    if not varied:
        return []
    columns = x[:, varied]
    tested = mannwhitneyu(columns[is_second], columns[~is_second], axis=0)
    aucs = tested.statistic / (is_second.sum() * (~is_second).sum())
    levels = holm(tested.pvalue.tolist())
    order = np.argsort(-np.abs(aucs - 0.5), kind="stable")
    return [names[varied[i]] for i in order if levels[i] < _LEVEL][:_NAMED]
