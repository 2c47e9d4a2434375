"""Precision, recall and F1 of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from danlu.data import Schema
from danlu.metrics import Predicted, by_class

CLASS_HEAD = ("class", "examples", "precision", "recall", "F1")
_MOST_SHOWN = 30  # classes; of more, those with the lowest F1


class ClassRow(NamedTuple):
    """What is reached for a class."""

    name: str
    examples: int
    precision: float
    recall: float
    f1: float


def class_rows(p: Predicted | None, schema: Schema) -> list[ClassRow]:
    """Return a row for each class in order; nothing where there are no classes to tell apart."""
    if p is None or schema.task not in ("classification", "tagging"):
        return []
    precision, recall, f1, examples = by_class(p, len(schema.classes))
    rows = []
    for k, name in enumerate(schema.classes):
        figures = (float(values[k]) for values in (precision, recall, f1))
        rows.append(ClassRow(name, int(examples[k]), *figures))
    return rows


def class_cells(rows: Sequence[ClassRow]) -> list[list[str]]:
    """Return the rows as text: all, or the worst of many classes, and how many more there are."""
    shown = list(rows)
    if len(rows) > _MOST_SHOWN:
        # Of a class without examples here there is nothing to tell.
        there = [row for row in rows if row.examples]
        shown = sorted(there, key=lambda row: row.f1)[:_MOST_SHOWN]
    cells = []
    for row in shown:
        ratios = [f"{value:.4f}" for value in (row.precision, row.recall, row.f1)]
        cells.append([row.name, f"{row.examples:,}", *ratios])
    if len(shown) < len(rows):
        left_out = len(rows) - len(shown)
        cells.append([f"and {left_out:,} more, which do better", "", "", "", ""])
    return cells
