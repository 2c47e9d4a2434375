"""Whether more data are worth it: the error by their number, and what twice as many bring.

Errors fall by a power law, err(n) = a + b·n^(−c) (Hestness et al. 2017).
Legend: V sizes, n seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from danlu.statistics import jackknife_half_width

_EXPONENTS = np.geomspace(0.05, 2, 60)
LEAST_SIZES = 4  # the law has three parameters

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """err(n) = a + b·n^(−c)."""

    a: float
    b: float
    c: float

    def __call__(self, n: float | Numbers) -> Numbers:
        """Return the errors at sizes."""
        found: Numbers = self.a + self.b * np.asarray(n, dtype=float) ** -self.c
        return found


@dataclass(frozen=True)
class LearningCurve:
    """Errors by size, the law through their means, and the gain of twice the largest size.

    sizes [V], errors [V][n]: by seed, the same seeds at every size. gain, low, high: by how much
    the error falls, with the 95 % interval over seeds.
    """

    sizes: Sequence[int]
    errors: Sequence[Sequence[float]]
    law: PowerLaw
    gain: float
    low: float
    high: float


def learning_curve(sizes: Sequence[int], errors: Sequence[Sequence[float]]) -> LearningCurve:
    """Return the law through errors [V][n] at four sizes or more, and the gain of doubling.

    The interval is over seeds, each left out in turn (jackknife, Tukey 1958), and holds as far as
    the law does beyond the sizes that were seen.
    """
    n = np.asarray(sizes, dtype=float)
    by_seed = np.asarray(errors, dtype=float)  # [V, n]
    law = fitted(n, by_seed.mean(1))
    gain, seeds = _gain(law, n.max()), by_seed.shape[1]
    if seeds < 2:
        return LearningCurve(sizes, errors, law, gain, math.nan, math.nan)
    without = [_gain(fitted(n, np.delete(by_seed, k, 1).mean(1)), n.max()) for k in range(seeds)]
    half = jackknife_half_width(without)
    return LearningCurve(sizes, errors, law, gain, gain - half, gain + half)


def fitted(n: Numbers, errors: Numbers) -> PowerLaw:
    """Return the law nearest to errors [V] at sizes [V], with a and b not below 0."""
    from scipy.optimize import nnls

    best, law = np.inf, PowerLaw(float(errors.mean()), 0.0, 1.0)
    for c in _EXPONENTS:
        powers = (n / n.max()) ** -c
        (a, b), distance = nnls(np.stack([np.ones_like(n), powers], 1), errors)
        if distance < best:
            best, law = distance, PowerLaw(float(a), float(b * n.max() ** c), float(c))
    return law


def _gain(law: PowerLaw, n: float) -> float:
    return float(law(n) - law(2 * n))
