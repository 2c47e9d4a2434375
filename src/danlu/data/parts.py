"""Names of the three parts of a set of data, in code, in files and folders, and for readers."""

from __future__ import annotations

import re
from collections.abc import Iterable

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
