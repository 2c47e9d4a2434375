"""Which examples belong to which part: by shares, by official parts, by the rule for sizes."""

from __future__ import annotations

import numpy as np

from danlu.data import split
from danlu.data.memmap import Array
from danlu.data.parts import PARTS
from danlu.data.raw import Raw
from danlu.errors import DataError, count, some, wrong


def partition(
    raw: Raw,
    split_as: str | tuple[float, ...] | None,
    valid: bool,
    seed: int,
) -> dict[str, split.Index]:
    """Return the indices of each part.

    By shares that are given, else by official parts, else by the rule. valid: whether there is to
    be a validation part. Raises DataError where a part that is wanted would be empty.
    """
    n = len(raw.x)
    # What the user asks for wins over the source's own parts.
    if split_as is not None:
        shares = split.parse(split_as)
        if not valid:
            # Nothing is to be lost: the test part takes over what validation would have had.
            train_share, valid_share, test_share = shares
            shares = (train_share, 0.0, valid_share + test_share)
        rest, test = split.draw(raw.labels, n, shares[2], seed, "split test")
    else:
        shares = (1.0, 0.0, 0.0) if raw.presplit else split.rule(n, valid)
        rest, test = _official_test(raw, shares[2], seed)
    train_share, valid_share, test_share = shares

    has_official_valid = split_as is None and raw.official_valid > 0
    if has_official_valid:
        first_valid = len(rest) - raw.official_valid
        train = rest[:first_valid] if valid else rest
        validation = rest[first_valid:] if valid else rest[:0]
    else:
        train, validation = _drawn_valid(raw, rest, valid_share, seed)

    parts = {"train": train, "valid": validation, "test": test}
    wanted = {"train": train_share, "valid": valid_share if valid else 0.0, "test": test_share}
    _refuse_empty(parts, wanted, n)
    return {part: parts[part] for part in PARTS}


def _drawn_valid(
    raw: Raw, rest: split.Index, share: float, seed: int
) -> tuple[split.Index, split.Index]:
    """Return (training part, validation part) of what the test part leaves; share: of all."""
    share_of_rest = 0.0
    if len(rest):
        share_of_rest = min(1.0, share * len(raw.x) / len(rest))
    labels = _labels_of(raw.labels, rest)
    train, valid = split.draw(labels, len(rest), share_of_rest, seed, "split valid")
    return rest[train], rest[valid]


def _labels_of(labels: Array | None, index: split.Index) -> Array | None:
    return None if labels is None else labels[index]


def _official_test(raw: Raw, share: float, seed: int) -> tuple[split.Index, split.Index]:
    """Return (the rest, the test part): the official test part where there is one, else a draw.

    An official validation part, which lies last, stays whole.
    """
    n = len(raw.x)
    everything = np.arange(n)
    if raw.official_test or raw.presplit:
        first_test = n - raw.official_test
        return everything[:first_test], everything[first_test:]
    free = n - raw.official_valid
    share_of_free = min(1.0, share * n / free)
    labels = _labels_of(raw.labels, everything[:free])
    rest, test = split.draw(labels, free, share_of_free, seed, "split test")
    return np.concatenate([rest, everything[free:]]), test


def _refuse_empty(parts: dict[str, split.Index], wanted: dict[str, float], n: int) -> None:
    empty = []
    for part in PARTS:
        is_wanted = wanted[part] > 0 or part == "train"
        if is_wanted and not len(parts[part]):
            empty.append(part)
    if empty:
        raise DataError(
            f"the data have {count(n, 'example')}, too few for {some(PARTS)} parts: "
            f"{some(empty)} would be empty"
        )


def limited(raw: Raw, train: split.Index, limit: int, seed: int) -> split.Index:
    """Return a stratified, seeded `limit` of the training part; of running text its beginning.

    Raises DataError for a limit that cannot hold an example of each class.
    """
    if limit < 1:
        raise DataError(wrong("limit", limit, "must be at least 1"))
    labels = _labels_of(raw.labels, train)
    classes = 1 if labels is None else len(np.unique(labels))
    if limit < classes:
        raise DataError(wrong("limit", limit, f"must be at least {classes}, one example per class"))
    # There is less than the limit.
    if limit >= len(train):
        return train
    if raw.schema.task == "language":
        return train[:limit]
    _, kept = split.draw(labels, len(train), limit / len(train), seed, "limit")
    return train[kept]
