"""Intervals, paired differences, and when a difference may be called one.

Legend: n replicates; a replicate gives every variant the same seed, so differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

INTERVALS = ("t", "bca")
_RESAMPLES = 9999
_Z = 1.959964  # of the normal distribution, for 95 %
_TINY = 1e-12  # spread relative to the largest value, below which all values are equal


@dataclass(frozen=True)
class Estimate:
    """A mean over n values with its interval and standard deviation.

    low and high are NaN where the values do not determine them: fewer than two, all equal, or too
    few for the bootstrap.
    """

    mean: float
    low: float
    high: float
    std: float
    n: int


def estimate(values: Sequence[float], level: float = 0.95, kind: str = "t") -> Estimate:
    """Return the mean with its interval.

    kind: "t" (Student's), or "bca", the bias-corrected and accelerated bootstrap (Efron 1987).
    """
    x = np.asarray(values, dtype=float)
    n = len(x)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0)
    mean = float(x.mean())
    if n < 2:
        return Estimate(mean, math.nan, math.nan, math.nan, n)
    std = float(x.std(ddof=1))
    # Equal values would give an interval of no width, which claims too much.
    if std <= _TINY * float(np.abs(x).max()):
        return Estimate(mean, math.nan, math.nan, std, n)
    if kind == "bca":
        low, high = _bca_interval(x, level)
        return Estimate(mean, low, high, std, n)
    half = half_width(std, n, level)
    return Estimate(mean, mean - half, mean + half, std, n)


def half_width(std: float, n: int, level: float) -> float:
    """Return half the width of Student's interval for the mean of n values."""
    from scipy.special import stdtrit  # scipy.stats takes three times as long to import

    quantile = float(stdtrit(n - 1, 0.5 + level / 2))
    return quantile * std / math.sqrt(n)


def jackknife_half_width(without: Sequence[float], level: float = 0.95) -> float:
    """Return half the width of the interval of a statistic of n values (Tukey 1958).

    without: the statistic of all values but one, n times.
    """
    x = np.asarray(without, dtype=float)
    n = len(x)
    # As if each were a mean of n − 1 values: their spread is (n − 1) times too small.
    return half_width(float(x.std(ddof=1)) * (n - 1), n, level)


def estimate_over_folds(values: Sequence[float]) -> Estimate:
    """Return the mean over folds with its 95 % interval (Nadeau and Bengio 2003).

    Folds share their training examples, so the variance of the mean is not s²/K but about
    s²·(1/K + 1/(K − 1)).
    """
    plain = estimate(values)
    if not math.isfinite(plain.low):
        return plain
    widening = math.sqrt(1 + plain.n / (plain.n - 1))
    half = (plain.high - plain.mean) * widening
    return Estimate(plain.mean, plain.mean - half, plain.mean + half, plain.std, plain.n)


def _bca_interval(x: NDArray[np.float64], level: float) -> tuple[float, float]:
    from scipy import stats

    result = stats.bootstrap(
        (x,),
        np.mean,
        confidence_level=level,
        n_resamples=_RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    interval = result.confidence_interval
    return float(interval.low), float(interval.high)


def p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p of the paired t-test that the mean difference is 0.

    It is 1 for fewer than two pairs. Where all differences are equal t is infinite and claims too
    much: there it is 2¹⁻ⁿ, as if signs were flipped at random.
    """
    d = np.asarray(differences, dtype=float)
    n = len(d)
    if n < 2 or not d.any():
        return 1.0
    std = float(d.std(ddof=1))
    if std <= _TINY * float(np.abs(d).max()):
        return 2.0 ** (1 - n)
    from scipy.special import stdtr

    standard_error = std / math.sqrt(n)
    t = abs(float(d.mean())) / standard_error
    one_sided = float(stdtr(n - 1, -t))
    return 2 * one_sided


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979).

    The chance of any false claim stays below the level.
    """
    corrected = [0.0] * len(p)
    # From the smallest p on, each is held to a milder level than the one before.
    order = sorted(range(len(p)), key=lambda i: p[i])
    floor = 0.0
    for rank, i in enumerate(order):
        remaining = len(p) - rank
        floor = max(floor, min(1.0, remaining * p[i]))
        corrected[i] = floor
    return corrected


def verdict(corrected: float, difference: float, alpha: float, higher_is_better: bool) -> str:
    """Return "better", "worse", or "no difference shown"."""
    if not corrected < alpha or difference == 0:
        return "no difference shown"
    is_higher = difference > 0
    return "better" if is_higher == higher_is_better else "worse"


def looks(most: int, first: int = 10) -> list[int]:
    """Return when a comparison that may go on looks at its figures: after 10, 20, 40, … and `most`.

    Not earlier: differences of accuracies on few examples take few values, and 5 of them have the
    same sign by chance more often than a level below 5 % may claim.
    """
    found, n = [], min(first, most)
    while n < most:
        found.append(n)
        n *= 2
    return [*found, most]


def level_of_a_look(alpha: float, most: int) -> float:
    """Return the level of a single look, so that all looks together keep α (Bonferroni)."""
    return alpha / len(looks(most))


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share observed on n examples (Wilson 1927)."""
    z2 = _Z * _Z
    # Unlike share ± z·√…, this keeps to [0, 1], and has a width at 0 and 1.
    centre = share + z2 / (2 * n)
    variance = share * (1 - share) / n + z2 / (4 * n * n)
    half = _Z * math.sqrt(variance)
    scale = 1 + z2 / n
    low = (centre - half) / scale
    high = (centre + half) / scale
    # Rounding must not keep an end from what was observed.
    return (0.0 if share <= 0 else max(0.0, low)), (1.0 if share >= 1 else min(1.0, high))


def difference_interval(a: float, n: int, b: float, m: int) -> tuple[float, float]:
    """Return the 95 % interval of a − b, shares observed on n and m examples.

    (Newcombe 1998, method 10.)
    """
    low_a, high_a = wilson_interval(a, n)
    low_b, high_b = wilson_interval(b, m)
    difference = a - b
    # The difference is least where a is low and b is high, and largest the other way round.
    below = math.hypot(a - low_a, high_b - b)
    above = math.hypot(high_a - a, b - low_b)
    return difference - below, difference + above


def mean_ranks(values: NDArray[Any]) -> NDArray[Any]:
    """Return the rank of each value from 1 on, equal ones sharing the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[Any] = last - (counts - 1) / 2
    return ranks[place]


def auc_interval(
    is_positive: NDArray[np.bool_], scores: NDArray[Any], widening: float = 1.0
) -> tuple[float, float]:
    """Return the 95 % interval of the area under a ROC curve (DeLong et al. 1988).

    By ranks (Sun and Xu 2014), on the scale of log-odds, so that it keeps to [0, 1]. widening: a
    factor, where scores are not independent. NaN where there are fewer than two of either kind.
    """
    positive, negative = scores[is_positive], scores[~is_positive]
    m, n = len(positive), len(negative)
    if min(m, n) < 2:
        return math.nan, math.nan
    ranks = mean_ranks(np.concatenate([positive, negative]))
    # Of each positive, the share of the negatives below it; of each negative, of those above.
    of_positives = (ranks[:m] - mean_ranks(positive)) / n
    of_negatives = 1 - (ranks[m:] - mean_ranks(negative)) / m
    auc = float(of_positives.mean())
    variance = float(of_positives.var(ddof=1)) / m + float(of_negatives.var(ddof=1)) / n
    if auc in (0, 1) or variance == 0:  # perfect separation has no spread to go by
        return math.nan, math.nan
    half = widening * _Z * math.sqrt(variance) / (auc * (1 - auc))
    centre = math.log(auc / (1 - auc))
    low, high = (1 / (1 + math.exp(-end)) for end in (centre - half, centre + half))
    return low, high


def confusion_interval(
    confusions: NDArray[Any], balanced: bool, draws: int = 1000
) -> tuple[float, float]:
    """Return the 95 % interval of macro-F1, or of balanced accuracy, by percentiles.

    confusions [true, predicted]: counts. Drawing examples again with replacement is drawing the
    counts from a multinomial distribution. The same at every call.
    """
    n, k = int(confusions.sum()), len(confusions)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(n, confusions.ravel() / n, size=draws).reshape(draws, k, k)
    right = np.diagonal(drawn, axis1=1, axis2=2)  # [draws, K]
    true, predicted = drawn.sum(2), drawn.sum(1)
    if balanced:
        counts, of_class = true, right / np.maximum(true, 1)
    else:
        counts = true + predicted
        of_class = 2 * right / np.maximum(counts, 1)
    # A class that a draw lacks takes no part in its mean.
    values = of_class.sum(1) / np.maximum((counts > 0).sum(1), 1)
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_interval(
    counts: Tensor, statistic: Callable[[Tensor], Tensor], draws: int = 2000
) -> tuple[float, float]:
    """Return the 95 % interval of a statistic of sums, by percentiles (Efron 1979).

    counts [n, q]: what each of n units adds to q sums; units are drawn again with replacement.
    statistic: from sums [draws, q] to [draws]. The same at every call.
    """
    import torch

    n = len(counts)
    generator = torch.Generator().manual_seed(0)
    sums = []
    for _ in range(draws):
        drawn = torch.randint(n, (n,), generator=generator)
        sums.append(counts[drawn].sum(0))  # [q]
    values = statistic(torch.stack(sums))  # [draws]
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = values.quantile(ends).tolist()
    return low, high
