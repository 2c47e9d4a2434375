"""What running text says by itself: the loss of a model that counts pairs of neighbouring tokens.

Legend: n windows, T tokens, K kinds of tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DISCOUNT = 0.75  # taken off every count, for pairs that were not seen

Tokens = NDArray[Any]


def pairs_loss(train: tuple[Tokens, Tokens], held_out: tuple[Tokens, Tokens], kinds: int) -> float:
    """Return the mean −ln P(next token | token) of held-out text, in nats.

    train, held_out: tokens and those that follow them [n, T], below 0 where there is none.
    P discounts counts of pairs absolutely and gives what is left over to single tokens by their
    share, of which each is counted once more (Ney, Essen and Kneser 1994).
    """
    first, second = _known(*train)
    singles = np.bincount(second, minlength=kinds) + 1.0
    share = singles / singles.sum()
    seen, counts = np.unique(first * kinds + second, return_counts=True)
    totals = np.bincount(seen // kinds, weights=counts, minlength=kinds)
    followers = np.bincount(seen // kinds, minlength=kinds)

    first, second = _known(*held_out)
    asked = first * kinds + second
    place = np.minimum(np.searchsorted(seen, asked), len(seen) - 1)
    count = np.where(seen[place] == asked, counts[place] - _DISCOUNT, 0.0)
    left_over = _DISCOUNT * followers[first]
    total = totals[first]
    by_pairs = (count + left_over * share[second]) / np.maximum(total, 1)
    return float(-np.log(np.where(total > 0, by_pairs, share[second])).mean())


def _known(tokens: Tokens, following: Tokens) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    is_known = following >= 0
    return tokens[is_known].astype(np.int64), following[is_known].astype(np.int64)
