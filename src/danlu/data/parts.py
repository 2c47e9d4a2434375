"""Names of the three parts of a set of data, in code, in files and folders, and for readers."""

from __future__ import annotations

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
}
TITLES = {"train": "training", "valid": "validation", "test": "test"}


def part_of(name: str) -> str | None:
    """Return the part that a name stands for, in whatever case; None where it stands for none."""
    return SPELLINGS.get(name.lower())


def in_order(parts: Iterable[str]) -> list[str]:
    """Return parts in the order in which examples are laid: "all" alone, or train, valid, test."""
    known = set(parts)
    return [part for part in ("all", *PARTS) if part in known]
