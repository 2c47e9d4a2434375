"""Models that are fitted to the data themselves, to see what these tell.

Legend: n examples, F features, T tokens, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.data.vocabulary import PAD

_FOLDS = 5
_PENALTY = 0.02  # of kernel ridge regression, by the kernel's diagonal and example
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
    found: Numbers = roots / np.maximum(lengths, 1e-12)
    return found


def cross_fitted(kernel: Numbers, targets: Numbers, fold_of: NDArray[np.int64]) -> Numbers:
    """Return targets [n, K] as models predict them that have not seen the example.

    Kernel ridge regression on the other folds; kernel [n, n], with about 1 on its diagonal.
    """
    found = np.empty(targets.shape)
    for fold in range(int(fold_of.max()) + 1):
        own, rest = fold_of == fold, fold_of != fold
        inner = kernel[np.ix_(rest, rest)]
        penalty = _PENALTY * rest.sum() * np.eye(len(inner))
        weights = np.linalg.solve(inner + penalty, targets[rest])
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
    # By its own spread, as of a rare class all targets are near 0.
    chosen: NDArray[np.int64] = (scores / np.sqrt(np.maximum(shares, 1e-12))).argmax(1)
    return chosen
