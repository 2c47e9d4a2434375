"""Training, validation and test parts: the notes' rule for their sizes, and a stratified, seeded draw."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.errors import DataError, some, wrong
from danlu.rng import seed_of

Index = NDArray[np.int64]
SMALL, LARGE = 10**4, 10**6


def rule(n: int, valid: bool = True) -> tuple[float, float, float]:
    """Shares (train, valid, test) for n examples.

    60/20/20 (70/0/30 without validation) up to 10⁴, 98/1/1 (99/0/1) at 10⁶, 99.5/0.25/0.25
    (99.75/0/0.25) above; between, the held-out share falls geometrically in log n.
    """
    at_small = 0.2 if valid else 0.3
    if n <= SMALL:
        held = at_small
    elif n <= LARGE:
        t = math.log(n / SMALL) / math.log(LARGE / SMALL)
        held = at_small * (0.01 / at_small) ** t
    else:
        held = 0.0025
    return (1 - 2 * held, held, held) if valid else (1 - held, 0.0, held)


def parse(split: str | tuple[float, ...]) -> tuple[float, float, float]:
    """ "60/20/20" or (0.7, 0.3) as three shares that sum to 1; two numbers mean training and test."""
    try:
        parts = [float(p) for p in (split.split("/") if isinstance(split, str) else split)]
    except ValueError:
        parts = []
    good = (
        len(parts) in (2, 3)
        and all(math.isfinite(p) and p >= 0 for p in parts)
        and parts[0] > 0
        and sum(parts) > 0
    )
    if not good:
        raise DataError(
            wrong("split", split, "must be two or three shares such as 60/20/20", "try 60/20/20")
        )
    train, valid, test = (parts[0], 0.0, parts[1]) if len(parts) == 2 else parts
    total = train + valid + test
    return train / total, valid / total, test / total


def draw(
    labels: NDArray[Any] | None, n: int, share: float, seed: int, purpose: str
) -> tuple[Index, Index]:
    """Two disjoint index sets of n examples, the second holding ⌊n·share + ½⌋; by class when labels are given.

    Every class gives its share to within one example, and at least one to each side when it has two.
    """
    order = np.random.default_rng(seed_of(seed, purpose)).permutation(n)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    size = math.floor(n * share + 0.5)
    # Walk the examples class by class and take one whenever the running quota passes a whole number.
    quota = np.floor(np.arange(1, n + 1) * (size / n) + 1e-9)
    taken = np.diff(quota, prepend=0.0) > 0
    if labels is not None and 0 < size < n:
        _spread(taken, labels[order])
    return np.sort(order[~taken]), np.sort(order[taken])


def _spread(taken: NDArray[np.bool_], labels: NDArray[Any]) -> None:
    """Give each class of two or more examples at least one on either side, at the cost of the largest classes."""
    _, starts, counts = np.unique(labels, return_index=True, return_counts=True)
    classes = [taken[a : a + n] for a, n in zip(starts, counts, strict=True)]
    surplus = -int(taken.sum())
    for inside in classes:
        if len(inside) >= 2 and (inside.all() or not inside.any()):
            inside[0] = not inside[0]
    surplus += int(taken.sum())
    for _ in range(abs(surplus)):
        give_back = surplus > 0
        largest = max(classes, key=lambda c: int(np.count_nonzero(c == (surplus > 0))))
        side = np.flatnonzero(largest == give_back)
        if len(side) < 2:
            break
        largest[side[-1]] = not give_back


def check(parts: dict[str, Index], labels: NDArray[Any], classes: tuple[str, ...]) -> None:
    """Refuse parts in which a class is missing."""
    mistakes = []
    total = np.bincount(labels, minlength=len(classes))
    for name, index in parts.items():
        counts = np.bincount(labels[index], minlength=len(classes))
        missing = [f"{classes[k]!r} ({total[k]} in all)" for k in np.flatnonzero(counts == 0)]
        if len(index) and missing:
            mistakes.append(
                f"the {name} part has no example of class {some(missing)}; give each class one example per part "
                "or more, or another split"
            )
    if mistakes:
        raise DataError(*mistakes)
