"""Bias, variance and noise of predictions over training sets.

Legend: R training sets, n examples, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.statistics import Estimate, estimate, jackknife_half_width

Array = NDArray[Any]
_LEAST_REPEATED, _LEAST_SHARE = 20, 0.1  # examples whose inputs come again, for noise to be known


@dataclass(frozen=True)
class Decomposition:
    """Parts of the expected loss, means over n examples with their intervals.

    loss = noise + bias + variance for squared loss; noise is None where too few examples have equal
    inputs (20, and a tenth of all): then the bias contains it. For 0–1 loss bias is how often the
    main prediction is wrong, variance how often a network differs from it, and `net` what that adds
    to the loss: it may also put a wrong main prediction right.
    """

    kind: str
    loss: Estimate
    bias: Estimate
    variance: Estimate
    net: Estimate
    noise: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        plain: dict[str, Any] = {"kind": self.kind, "noise": self.noise}
        for name in ("loss", "bias", "variance", "net"):
            found: Estimate = getattr(self, name)
            plain[name] = {"mean": found.mean, "low": found.low, "high": found.high}
        return plain


def squared(predictions: Array, targets: Array, groups: Array | None = None) -> Decomposition:
    """Decompose E(ŷ − y)² = noise + (E ŷ − E y)² + Var ŷ.

    predictions [R, n] numbers, or [R, n, K] probabilities; targets [n], or one-hot [n, K]. groups
    [n]: equal for examples with equal inputs. Bias² and variance are unbiased estimates: the
    variance divides by R − 1, and the bias² is freed of the variance of the mean, Var/R.
    """
    if predictions.ndim == 2:
        predictions, targets = predictions[:, :, None], targets[:, None]
    r = len(predictions)
    loss = ((predictions - targets) ** 2).sum(2).mean(0)  # [n]
    variance = predictions.var(0, ddof=1).sum(1)
    gap = ((predictions.mean(0) - targets) ** 2).sum(1) - variance / r
    noise = _noise(groups, lambda rows: float(targets[rows].var(0, ddof=1).sum()))
    bias = gap - (noise or 0.0)
    without = _squared_without_each(predictions, targets, noise or 0.0)
    columns = (loss, bias, variance)
    of_loss, of_bias, of_variance = (
        _over_both(column, without[:, k]) for k, column in enumerate(columns)
    )
    return Decomposition("squared", of_loss, of_bias, of_variance, of_variance, noise)


def _squared_without_each(predictions: Array, targets: Array, noise: float) -> Array:
    """Return loss, bias² and variance without each training set in turn, [R, 3].

    By sums, as R decompositions of R − 1 sets would take R² passes.
    """
    r = len(predictions) - 1
    if r < 2:
        return np.full((r + 1, 3), math.nan)
    total, squares = predictions.sum(0), (predictions**2).sum(0)  # [n, K]
    losses = ((predictions - targets) ** 2).sum(2).mean(1)  # [R]
    found = []
    for k, own in enumerate(predictions):
        mean = (total - own) / r
        variance = (((squares - own**2) - r * mean**2) / (r - 1)).sum(1)
        gap = ((mean - targets) ** 2).sum(1) - variance / r
        loss = (losses.sum() - losses[k]) / r
        found.append([loss, gap.mean() - noise, variance.mean()])
    return np.array(found)


def _over_both(of_examples: Array, without: Array) -> Estimate:
    """Return the mean over examples with its interval over examples and training sets.

    without [R]: the same without each training set; NaN for two sets, of which nothing can be said:
    then the interval is over examples alone.
    """
    found = estimate(of_examples.tolist())
    if np.isnan(without).any():
        return found
    of_sets = jackknife_half_width(without.tolist())
    half = math.hypot((found.high - found.low) / 2, of_sets)
    if math.isnan(found.low):  # all examples alike
        half = of_sets or math.nan
    return replace(found, low=found.mean - half, high=found.mean + half)


def zero_one(predictions: Array, targets: Array, groups: Array | None = None) -> Decomposition:
    """Decompose the error rate (Domingos 2000): main prediction, and how often networks differ.

    predictions [R, n]: classes; targets [n]. The main prediction is the most frequent one.
    """
    classes = int(max(predictions.max(), targets.max())) + 1
    votes = np.stack([(predictions == k).sum(0) for k in range(classes)])  # [K, n]
    main = votes.argmax(0)  # [n]
    loss = (predictions != targets).mean(0)
    bias = (main != targets).astype(float)
    variance = (predictions != main).mean(0)
    noise = _noise(groups, lambda rows: _minority(targets[rows]))
    without = _zero_one_without_each(predictions, targets, votes)
    columns = (loss, bias, variance, loss - bias)
    of_loss, of_bias, of_variance, of_net = (
        _over_both(column, without[:, k]) for k, column in enumerate(columns)
    )
    return Decomposition("0-1", of_loss, of_bias, of_variance, of_net, noise)


def _zero_one_without_each(predictions: Array, targets: Array, votes: Array) -> Array:
    """Return loss, bias, variance and net variance without each training set, [R, 4]."""
    r = len(predictions) - 1
    if r < 2:
        return np.full((r + 1, 4), math.nan)
    rows = np.arange(len(targets))
    wrong = (predictions != targets).mean(1)  # [R]
    found = []
    for k, own in enumerate(predictions):
        left = votes.copy()
        left[own, rows] -= 1
        main = left.argmax(0)
        loss = (wrong.sum() - wrong[k]) / r
        bias = (main != targets).mean()
        variance = 1 - (left[main, rows] / r).mean()
        found.append([loss, bias, variance, loss - bias])
    return np.array(found)


def _minority(targets: Array) -> float:
    """Return how often the most frequent answer to equal questions is not the right one."""
    counts = np.bincount(targets.astype(int))
    return float(1 - counts.max() / counts.sum())


def _noise(groups: Array | None, of_group: Callable[[Array], float]) -> float | None:
    """Return the mean noise over groups of equal inputs, by their sizes; None without any."""
    if groups is None:
        return None
    _, sizes = np.unique(groups, return_counts=True)
    repeated = int(sizes[sizes > 1].sum())
    # A few copies say nothing of the others.
    if repeated < max(_LEAST_REPEATED, _LEAST_SHARE * len(groups)):
        return None
    total, weight = 0.0, 0
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) > 1:
            total += len(rows) * of_group(rows)
            weight += len(rows)
    return total / weight if weight and math.isfinite(total) else None


def equal_inputs(x: Array) -> Array | None:
    """Return the number of each example's inputs [n], equal for equal ones; None if all differ."""
    rows = np.ascontiguousarray(x.reshape(len(x), -1))
    _, numbers = np.unique(rows, axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    return numbers if len(np.unique(numbers)) < len(numbers) else None
