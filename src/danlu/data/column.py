"""A column of a table: how its cells are written, and the features that they become.

What is fitted here (levels, the median for missing cells) comes from the training part alone and
travels with the schema, so that new rows are read as those of the training were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ColumnKind = Literal["number", "category", "date"]

MAX_INDICATORS = 20  # a category with more levels becomes one number, for an embedding
FAR = 256.0  # spreads from 0: numbers so far away would lose in float32 what differs
DATE_PARTS = ("year", "month", "weekday", "hour")
_CYCLIC = ("month", "weekday", "hour")


@dataclass(frozen=True)
class Column:
    """One column. A category with levels (a, b, c) becomes three 0/1 features.

    A category of more than 20 levels becomes one feature, the number of its level, which the
    network looks up in an embedding. A date becomes its year and, on a circle, month, day of the
    week and hour.
    """

    name: str
    levels: tuple[str, ...] = ()
    kind: ColumnKind = "number"
    style: str = ""
    """How numbers or dates are written, as `danlu.data.tables.cells` names it."""
    has_other: bool = False
    """Of a category: whether rare and unknown levels have a level of their own, the last
    but that for missing cells."""
    has_gaps: bool = False
    """Whether missing cells have a feature (or, of a category, a level) of their own, the last."""
    fill: float = 0.0
    """What stands for a missing number: the median; of a date its year."""
    shift: float = 0.0
    scale: float = 1.0
    """A number v is kept as (v − shift)/scale: what float32 would lose is taken out before."""
    parts: tuple[str, ...] = ()
    """Of a date: which of `DATE_PARTS` vary."""

    @property
    def is_embedded(self) -> bool:
        """Whether it is one feature, the number of a level."""
        return self.kind == "category" and self.n_levels > MAX_INDICATORS

    @property
    def n_levels(self) -> int:
        """How many levels a category has, those for other and missing ones included."""
        return len(self.levels) + self.has_other + self.has_gaps

    @property
    def features(self) -> list[str]:
        """The names of its features."""
        if self.is_embedded:
            return [self.name]
        if self.kind == "category":
            names = [f"{self.name}={level}" for level in self.levels]
            if self.has_other:
                names.append(f"{self.name} is other")
        elif self.kind == "date":
            names = self._date_features()
        else:
            names = [self.name]
        if self.has_gaps:
            names.append(f"{self.name} is missing")
        return names

    @property
    def width(self) -> int:
        """How many features this column becomes."""
        return len(self.features)

    @property
    def is_measured(self) -> list[bool]:
        """Of each feature, whether it is a number to be standardised: not 0/1, nor on a circle."""
        first_is_number = self.kind == "number" or "year" in self.parts
        return [first_is_number and position == 0 for position in range(self.width)]

    def _date_features(self) -> list[str]:
        names = []
        for part in self.parts:
            if part in _CYCLIC:
                names += [f"{self.name} {part} sin", f"{self.name} {part} cos"]
            else:
                names.append(f"{self.name} {part}")
        return names
