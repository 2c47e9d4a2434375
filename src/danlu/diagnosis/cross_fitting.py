"""Models that are fitted to the data themselves, to see what these tell.

Legend: n examples, F features, T tokens, K classes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from danlu.data.vocabulary import PAD

_FOLDS = 5
STRONG, WEAK = 0.02, 1e-3  # penalties of kernel ridge regression, by diagonal and example
_SUREST = 100  # examples at the least, but no more than half
_TINY = 1e-12
_LONGEST_PHRASE = 4  # tokens
_PHRASES = 1 << 12  # numbers that phrases are hashed to
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

Numbers = NDArray[np.float64]


def phrase_shares(tokens: NDArray[Any]) -> Numbers:
    """Return which phrases each text [n, T] has, hashed, as vectors [n, F] of length 1."""
    counts = np.zeros((len(tokens), _PHRASES))
    rows = np.broadcast_to(np.arange(len(tokens))[:, None], tokens.shape)
    numbers = tokens.astype(np.uint64) + np.uint64(1)
    phrase = np.zeros(tokens.shape, dtype=np.uint64)
    is_there = np.ones(tokens.shape, dtype=bool)
    for length in range(min(_LONGEST_PHRASE, tokens.shape[1])):
        # Each phrase grows by the token behind it, and the last place has none.
        places = tokens.shape[1] - length
        phrase = (phrase[:, :places] + numbers[:, length:]) * _FACTOR
        is_there = is_there[:, :places] & (tokens[:, length:] != PAD)
        hashed = (phrase >> np.uint64(40)) % np.uint64(_PHRASES)
        np.add.at(counts, (rows[:, :places][is_there], hashed[is_there].astype(int)), 1)
    roots = np.sqrt(counts)
    lengths = np.linalg.norm(roots, axis=1, keepdims=True)
    found: Numbers = roots / np.maximum(lengths, _TINY)
    return found


def kernels(x: Numbers) -> tuple[Numbers, Numbers]:
    """Return kernels [n, n] of examples [n, F] with about 1 on the diagonal.

    A linear one, and a Gaussian one as wide as examples usually are apart.
    """
    products = x @ x.T
    squares = products.diagonal()
    apart = np.maximum(squares[:, None] + squares - 2 * products, 0)
    linear: Numbers = products / max(float(squares.mean()), _TINY)
    width = float(np.median(apart))
    if width == 0 and apart.any():  # most are equal
        width = float(np.median(apart[apart > 0]))
    gaussian: Numbers = np.exp(-apart / max(width, _TINY))
    return linear, gaussian


def cross_fitted(
    kernel: Numbers, targets: Numbers, fold_of: NDArray[np.int64], penalty: float = STRONG
) -> Numbers:
    """Return targets [n, K] as models predict them that have not seen the example.

    Kernel ridge regression on the other folds; kernel [n, n], with about 1 on its diagonal.
    """
    found = np.empty(targets.shape)
    for fold in range(int(fold_of.max()) + 1):
        own, rest = fold_of == fold, fold_of != fold
        inner = kernel[np.ix_(rest, rest)]
        ridge = penalty * rest.sum() * np.eye(len(inner))
        weights = np.linalg.solve(inner + ridge, targets[rest])
        found[own] = kernel[np.ix_(own, rest)] @ weights
    return found


def folds(n: int) -> NDArray[np.int64]:
    """Return the fold of each of n examples, drawn; the same at every call."""
    found: NDArray[np.int64] = np.random.default_rng(0).permutation(n) % _FOLDS
    return found


def recognised(x: Numbers, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class [n] that a linear model gives to examples [n, F] it has not seen.

    Classes count by how rare they are, so that a common one does not win them all.
    """
    counts = np.bincount(labels)
    one_hot = np.eye(len(counts))[labels]
    shares = one_hot.mean(0)
    scores = cross_fitted(x @ x.T, one_hot - shares, folds(len(x)))
    return by_own_spread(scores, shares)


def by_own_spread(scores: Numbers, shares: Numbers) -> NDArray[np.int64]:
    """Return the class [n] whose score [n, K] above its share [K] is the largest for its spread.

    Of a rare class all targets are near 0.
    """
    chosen: NDArray[np.int64] = (scores / np.sqrt(np.maximum(shares, _TINY))).argmax(1)
    return chosen


class Contradiction(NamedTuple):
    """Labels that contradict out-of-fold models.

    accuracy: of the models on all examples. share: of labels that contradict, among the examples of
    which the models are most confident. examples: how many these are. of_half: the share among the
    more confident half. rank: of contradicting labels in the models' order of the classes but the
    first, from 0, the likeliest, to 1: the mean and its standard error added; NaN for two or three
    classes, or fewer than two such labels.
    """

    accuracy: float
    share: float
    examples: int
    of_half: float
    rank: float


def contradiction(scores: Numbers, labels: NDArray[np.int64]) -> Contradiction:
    """Return which labels [n] contradict out-of-fold scores [n, K], in figures."""
    n, classes = scores.shape
    ordered = np.sort(scores, 1)
    by_margin = np.argsort(ordered[:, -2] - ordered[:, -1], kind="stable")
    contradicts = scores.argmax(1) != labels
    half = by_margin[: n // 2]
    surest = half[: max(_SUREST, n // 10)]
    wrong = half[contradicts[half]]
    rank = np.nan
    if classes > 3 and len(wrong) > 1:
        ahead = (scores[wrong] > scores[wrong, labels[wrong]][:, None]).sum(1)
        ranks = (ahead - 1) / (classes - 2)
        rank = float(ranks.mean() + ranks.std() / np.sqrt(len(ranks)))
    share, of_half = (float(contradicts[rows].mean()) for rows in (surest, half))
    return Contradiction(float(1 - contradicts.mean()), share, len(surest), of_half, rank)
