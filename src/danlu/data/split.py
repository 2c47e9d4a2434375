"""Training, validation and test parts: the notes' rule for their sizes, and a seeded draw."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.errors import DataError, some, wrong
from danlu.rng import seed_of

Index = NDArray[np.int64]
Shares = tuple[float, float, float]
TwoParts = tuple[Index, Index]
SMALL, LARGE = 10**4, 10**6


def rule(n: int, valid: bool = True) -> Shares:
    """Return the shares (train, valid, test) for n examples.

    60/20/20 (70/0/30 without validation) up to 10⁴, 98/1/1 (99/0/1) at 10⁶, 99.5/0.25/0.25
    (99.75/0/0.25) above; between, the held-out share falls geometrically in log n.
    """
    at_small = 0.2 if valid else 0.3
    at_large = 0.01
    if n <= SMALL:
        held_out = at_small
    elif n <= LARGE:
        # Geometrically: a straight line between the two ends on logarithmic axes.
        whole_way = math.log(LARGE / SMALL)
        way = math.log(n / SMALL) / whole_way
        ratio = at_large / at_small
        held_out = at_small * ratio**way
    else:
        held_out = 0.0025
    if not valid:
        return 1 - held_out, 0.0, held_out
    return 1 - 2 * held_out, held_out, held_out


def parse(split: str | tuple[float, ...]) -> Shares:
    """Return "60/20/20" or (0.7, 0.3) as three shares that sum to 1.

    Two numbers mean training and test. Raises DataError for anything else.
    """
    written = split.split("/") if isinstance(split, str) else split
    try:
        shares = [float(share) for share in written]
    except ValueError:
        shares = []
    if not _are_shares(shares):
        rule = "must be two or three shares such as 60/20/20"
        raise DataError(wrong("split", split, rule, "try 60/20/20"))
    if len(shares) == 2:
        shares.insert(1, 0.0)
    total = sum(shares)
    train, valid, test = (share / total for share in shares)
    return train, valid, test


def _are_shares(shares: list[float]) -> bool:
    """Whether numbers can be shares of two or three parts, some of them training."""
    if len(shares) not in (2, 3):
        return False
    for share in shares:
        if not math.isfinite(share) or share < 0:
            return False
    return shares[0] > 0


def draw(
    labels: NDArray[Any] | None,
    n: int,
    share: float,
    seed: int,
    purpose: str,
) -> TwoParts:
    """Return two disjoint index sets of n examples, the second holding ⌊n·share + ½⌋.

    With labels, every class gives its share to within one example, and at least one to each side
    when it has two.
    """
    rng = np.random.default_rng(seed_of(seed, purpose))
    order = rng.permutation(n)
    if labels is not None:
        # Stable: within a class the shuffle stays.
        by_class = np.argsort(labels[order], kind="stable")
        order = order[by_class]
    size = math.floor(n * share + 0.5)
    # Walk the examples class by class, and take one whenever the quota passes a whole number.
    examples_passed = np.arange(1, n + 1)
    quota = np.floor(examples_passed * (size / n) + 1e-9)
    taken = np.diff(quota, prepend=0.0) > 0  # [n]
    if labels is not None and 0 < size < n:
        _put_each_class_on_both_sides(taken, labels[order])
    first = np.sort(order[~taken])
    second = np.sort(order[taken])
    return first, second


def _put_each_class_on_both_sides(taken: NDArray[np.bool_], labels: NDArray[Any]) -> None:
    """Change `taken` so that each class of two or more has one on either side.

    labels: sorted. The largest classes pay for it.
    """
    _, starts, counts = np.unique(labels, return_index=True, return_counts=True)
    classes = []  # views of `taken`
    for start, count in zip(starts, counts, strict=True):
        classes.append(taken[start : start + count])

    before = int(taken.sum())
    for in_class in classes:
        is_on_one_side = in_class.all() or not in_class.any()
        if len(in_class) >= 2 and is_on_one_side:
            in_class[0] = not in_class[0]
    surplus = int(taken.sum()) - before

    # As many others change sides, so that the sizes stay.
    gives_back = surplus > 0

    def movable_in(in_class: NDArray[np.bool_]) -> int:
        return int(np.count_nonzero(in_class == gives_back))

    for _ in range(abs(surplus)):
        largest = max(classes, key=movable_in)
        movable = np.flatnonzero(largest == gives_back)
        if len(movable) < 2:
            break
        largest[movable[-1]] = not gives_back


def absent_classes(
    parts: dict[str, Index], labels: NDArray[Any], classes: tuple[str, ...]
) -> list[str]:
    """Return in words which classes have no example in a part.

    Raises DataError where training has examples of a single class.
    """
    notices = []
    n_classes = len(classes)
    total = np.bincount(labels, minlength=n_classes)  # [K]
    for name, index in parts.items():
        if not len(index):
            continue
        counts = np.bincount(labels[index], minlength=n_classes)  # [K]
        absent = [f"{classes[k]!r} ({total[k]} in all)" for k in np.flatnonzero(counts == 0)]
        if name == "train" and len(absent) >= n_classes - 1:
            raise DataError(
                f"the train part has no example of class {some(absent)}; give each class one "
                "example per part or more, or another split"
            )
        if absent:
            what = "cannot be learnt" if name == "train" else "is not scored there"
            notices.append(f"the {name} part has no example of class {some(absent)}, which {what}")
    return notices
