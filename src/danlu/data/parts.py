"""The three parts of a set of data: their names, in code, in files and for readers; their sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from danlu.data.memmap import Array
from danlu.errors import DataError

PARTS = ("train", "valid", "test")

# What people call the parts, as names of folders, files and splits.
SPELLINGS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "development": "valid",
    "eval": "valid",
    "test": "test",
    "testing": "test",
    # CoNLL-2003 calls its parts eng.train, eng.testa and eng.testb.
    "testa": "valid",
    "testb": "test",
}
_SETS = re.compile(r"[\W_]*(set|data|dataset|images|split|part)$")
TITLES = {"train": "training", "valid": "validation", "test": "test"}


@dataclass(frozen=True)
class Sizes:
    """How many of the last rows are the validation and the test part."""

    valid: int = 0
    test: int = 0


WHOLE = Sizes()  # all rows are one part


def part_of(name: str) -> str | None:
    """Return the part that a name stands for, in whatever case; None where it stands for none.

    Also of a name with "set" and the like behind it: training_set.
    """
    lower = name.lower()
    return SPELLINGS.get(lower) or SPELLINGS.get(_SETS.sub("", lower))


def part_of_file(name: str) -> str | None:
    """Return the part that one of the words of a file's name stands for, such as eng.train."""
    words = re.split(r"[^a-z]+", name.lower())
    found = {part for word in words if (part := part_of(word))}
    return found.pop() if len(found) == 1 else None


def in_order(parts: Iterable[str]) -> list[str]:
    """Return parts in the order in which examples are laid: "all" alone, or train, valid, test."""
    known = set(parts)
    return [part for part in ("all", *PARTS) if part in known]


def sizes_left(kept: Array, n_valid: int, n_test: int, name: str) -> tuple[int, int]:
    """Return how many rows of the validation and test parts, the last ones, are kept.

    kept: booleans [N]. Raises DataError for a part that would vanish.
    """
    n_train = len(kept) - n_valid - n_test
    parts = np.split(kept, [n_train, n_train + n_valid])
    gone = [
        title
        for title, part in zip(TITLES.values(), parts, strict=True)
        if len(part) and not part.any()
    ]
    if gone:
        raise DataError(
            f"no row of the {' and the '.join(gone)} part of {name} can be used; fill its cells, "
            "or leave that file away"
        )
    return int(parts[1].sum()), int(parts[2].sum())
