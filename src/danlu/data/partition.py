"""Which examples belong to which part: by shares, by official parts, by the rule for sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from danlu.data import split
from danlu.data.memmap import Array
from danlu.data.parts import PARTS
from danlu.data.raw import Raw
from danlu.data.split import Index, Shares, TwoParts
from danlu.errors import DataError, count, some, wrong


def partition(
    raw: Raw,
    split_as: str | tuple[float, ...] | None,
    valid: bool,
    seed: int,
) -> dict[str, Index]:
    """Return the indices of each part.

    By shares that are given, else by official parts, else by the rule. valid: whether there is to
    be a validation part. Raises DataError where a part that is wanted would be empty.
    """
    n = len(raw.x)
    train_share, valid_share, test_share = _shares_of(raw, split_as, valid)
    # What the user asks for wins over the source's own parts.
    if split_as is not None:
        rest, test = split.draw(raw.labels, n, test_share, seed, "split test")
    else:
        rest, test = _official_test(raw, test_share, seed)

    has_official_valid = split_as is None and raw.official_valid > 0
    if not has_official_valid:
        train, validation = _drawn_valid(raw, rest, valid_share, seed)
    elif valid:
        first_valid = len(rest) - raw.official_valid
        train = rest[:first_valid]
        validation = rest[first_valid:]
    else:
        # No validation part is wanted: the official one's examples are trained on.
        train = rest
        validation = rest[:0]

    parts = {"train": train, "valid": validation, "test": test}
    if raw.labels is not None:
        drawn = []
        if not has_official_valid:
            drawn.append("valid")
        if split_as is not None or not (raw.official_test or raw.presplit):
            drawn.append("test")
        _serve_training_first(parts, drawn, raw.labels)
    wanted = {"train": train_share, "valid": valid_share, "test": test_share}
    _refuse_empty(parts, wanted, n)
    return parts


def _serve_training_first(parts: dict[str, Index], drawn: Sequence[str], labels: Array) -> None:
    """Move the example of a class that training lacks out of a part that was drawn."""
    trained_on = set(np.unique(labels[parts["train"]]).tolist())
    for part in drawn:
        index = parts[part]
        classes, first = np.unique(labels[index], return_index=True)
        is_new = [k not in trained_on for k in classes.tolist()]
        moved = index[first[is_new]]
        if len(moved) and len(moved) < len(index):
            trained_on |= set(classes[is_new].tolist())
            parts["train"] = np.sort(np.concatenate([parts["train"], moved]))
            parts[part] = np.setdiff1d(index, moved)


def _shares_of(raw: Raw, split_as: str | tuple[float, ...] | None, valid: bool) -> Shares:
    """Return the shares (train, valid, test); that of validation is 0 where it is unwanted."""
    if split_as is None:
        if raw.presplit:
            return 1.0, 0.0, 0.0
        return split.rule(len(raw.x), valid)
    train, validation, test = split.parse(split_as)
    if not valid:
        # Nothing is to be lost: the test part takes over what validation would have had.
        return train, 0.0, validation + test
    return train, validation, test


def _drawn_valid(raw: Raw, rest: Index, share: float, seed: int) -> TwoParts:
    """Return (training part, validation part) of what the test part leaves; share: of all."""
    share_of_rest = 0.0
    if len(rest):
        wanted = share * len(raw.x)
        share_of_rest = min(1.0, wanted / len(rest))
    labels = _labels_of(raw.labels, rest)
    train, valid = split.draw(labels, len(rest), share_of_rest, seed, "split valid")
    return rest[train], rest[valid]


def _labels_of(labels: Array | None, index: Index) -> Array | None:
    if labels is None:
        return None
    return labels[index]


def _official_test(raw: Raw, share: float, seed: int) -> TwoParts:
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
    drawn_from = everything[:free]
    labels = _labels_of(raw.labels, drawn_from)
    rest, test = split.draw(labels, free, share_of_free, seed, "split test")
    official_valid = everything[free:]
    return np.concatenate([rest, official_valid]), test


def _refuse_empty(parts: dict[str, Index], wanted: dict[str, float], n: int) -> None:
    empty = []
    for part in PARTS:
        # Nothing is learnt without examples, whatever the shares say.
        is_wanted = wanted[part] > 0 or part == "train"
        if is_wanted and not len(parts[part]):
            empty.append(part)
    if empty:
        raise DataError(
            f"the data have {count(n, 'example')}, too few for {some(PARTS)} parts: "
            f"{some(empty)} would be empty"
        )


def limited(raw: Raw, train: Index, limit: int, seed: int) -> Index:
    """Return a stratified, seeded `limit` of the training part; of running text its beginning.

    Raises DataError for a limit that cannot hold an example of each class.
    """
    if limit < 1:
        raise DataError(wrong("limit", limit, "must be at least 1"))
    labels = _labels_of(raw.labels, train)
    classes = 1
    if labels is not None:
        classes = len(np.unique(labels))
    if limit < classes:
        raise DataError(wrong("limit", limit, f"must be at least {classes}, one example per class"))
    # There is less than the limit.
    if limit >= len(train):
        return train
    if raw.schema.task == "language":
        return train[:limit]
    share = limit / len(train)
    _, kept = split.draw(labels, len(train), share, seed, "limit")
    return train[kept]
