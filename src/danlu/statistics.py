"""Means, paired differences, and when a difference may be called one.

Legend: n replicates; a replicate gives every variant the same seed, so differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

INTERVALS = ("t", "bca")
_RESAMPLES = 9999


@dataclass(frozen=True)
class Estimate:
    """A mean over n values with its interval and standard deviation.

    low and high are NaN where the values do not tell: fewer than two, all equal, or too few for the bootstrap.
    """

    mean: float
    low: float
    high: float
    std: float
    n: int


def estimate(values: Sequence[float], level: float = 0.95, kind: str = "t") -> Estimate:
    """The mean with its interval: Student's t, or the bias-corrected and accelerated bootstrap (Efron 1987)."""
    x = np.asarray(values, dtype=float)
    n = len(x)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    mean, std = float(x.mean()), float(x.std(ddof=1)) if n > 1 else math.nan
    if n < 2:
        return Estimate(mean, math.nan, math.nan, std, n)
    if std <= 1e-12 * float(np.abs(x).max()):
        return Estimate(mean, math.nan, math.nan, std, n)
    from scipy import stats

    if kind == "bca":
        found = stats.bootstrap(
            (x,),
            np.mean,
            confidence_level=level,
            n_resamples=_RESAMPLES,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
        return Estimate(mean, float(found.low), float(found.high), std, n)
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * std / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, std, n)


def p_value(differences: Sequence[float]) -> float:
    """Two-sided p of the paired t-test that the mean difference is 0; 1 for fewer than two pairs.

    Where all differences are equal t is infinite and says too much: there it is 2¹⁻ⁿ, as if signs were flipped at random.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2 or not d.any():
        return 1.0
    spread = float(d.std(ddof=1))
    if spread <= 1e-12 * float(np.abs(d).max()):
        return 2.0 ** (1 - len(d))
    from scipy import stats

    t = abs(float(d.mean())) / (spread / math.sqrt(len(d)))
    return float(2 * stats.t.sf(t, len(d) - 1))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number, so that the chance of any false claim stays below the level (Holm 1979)."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    out, floor = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        floor = max(floor, min(1.0, (len(p) - rank) * p[i]))
        out[i] = floor
    return out


def verdict(corrected: float, difference: float, alpha: float, higher_is_better: bool) -> str:
    """ "better", "worse", or "no difference shown"."""
    if not corrected < alpha or difference == 0:
        return "no difference shown"
    return "better" if (difference > 0) == higher_is_better else "worse"


def looks(most: int, first: int = 10) -> list[int]:
    """When a comparison that may go on looks at its figures: after 10 replicates, 20, 40, … and at the end.

    Not earlier: differences of accuracies on few examples take few values, and of 5 such ones all have the same sign by
    chance more often than a level below 5 % may claim.
    """
    out, n = [], min(first, most)
    while n < most:
        out.append(n)
        n *= 2
    return [*out, most]


def spent(alpha: float, most: int) -> float:
    """The level of a single look, so that all looks together keep α, whatever the correlation (Bonferroni)."""
    return alpha / len(looks(most))
