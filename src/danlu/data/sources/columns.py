"""Names by which columns and fields are recognised, in whatever format they come."""

from __future__ import annotations

from collections.abc import Iterable

TEXT = ("text", "sentence", "review", "content", "comment", "sequence")
# What a table's target is usually called, best first.
TARGETS = ("target", "label", "labels", "targets", "class", "species", "y", "fine_label")
# Beside a text, these are its label too; in a wide table they may as well be features.
LABELS_OF_TEXT = (*TARGETS, "sentiment", "category")
FEW = 3  # columns: among more, such a name may as well be a feature's
# Of pairs of texts: the source's name, and the target's.
PAIRS = (("source", "target"), ("src", "tgt"), ("input", "output"), ("question", "answer"))


def first_named(columns: Iterable[str], names: Iterable[str]) -> str | None:
    """Return the first of the columns that bears one of the names, in whatever case."""
    known = set(names)
    return next((column for column in columns if column.lower() in known), None)
