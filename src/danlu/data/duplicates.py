"""Finding equal examples. Legend: N examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from danlu.data.memmap import Array

Digests = np.ndarray[Any, Any]


def row_digests(rows: Array) -> Digests:
    """Return a number per row [N], equal for equal rows: the sum of its mixed words mod 2⁶⁴."""
    if rows.dtype != np.uint8:
        rows = rows + 0  # −0.0 equals 0.0
    words = _words_of(rows)
    width = words.shape[1]

    rng = np.random.default_rng(0)
    one = np.uint64(1)
    # Odd numbers, as an even factor would lose bits.
    offsets = rng.integers(2**64, size=width, dtype=np.uint64) | one
    factors = rng.integers(2**64, size=width, dtype=np.uint64) | one
    # Every bit must reach the upper half before and after the product: floats differ only there.
    mixed = words + offsets
    mixed ^= mixed >> np.uint64(32)
    mixed *= factors
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    digests: Digests = mixed.sum(1, dtype=np.uint64)
    return digests


def _words_of(rows: Array) -> Digests:
    """Return each row's bytes as eight-byte words [N, words], padded with zeros."""
    flat = rows.reshape(len(rows), -1)
    octets = np.ascontiguousarray(flat).view(np.uint8)
    missing = -octets.shape[1] % 8
    filled = np.pad(octets, ((0, 0), (0, missing)))
    return filled.view(np.uint64)


def equal_groups(digests: Digests) -> Iterator[Array]:
    """Yield the indices of each group of two or more equal digests."""
    order = np.argsort(digests, kind="stable")
    ordered = digests[order]
    differs = ordered[1:] != ordered[:-1]  # [N − 1]
    starts_group = np.concatenate(([True], differs))
    edges = np.append(np.flatnonzero(starts_group), len(order))
    sizes = np.diff(edges)
    for i in np.flatnonzero(sizes > 1):
        start = edges[i]
        end = edges[i + 1]
        yield order[start:end]


def first_of_each_part(group: Array, part_of: Array) -> dict[int, int]:
    """Return the first example of a group in each part (by the part's number)."""
    firsts: dict[int, int] = {}
    for example in group:
        part = int(part_of[example])
        if part >= 0:
            firsts.setdefault(part, int(example))
    return firsts
