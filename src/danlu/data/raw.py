"""What a source reads, before it is split and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from danlu.data.memmap import Array
from danlu.data.schema import Schema


@dataclass(frozen=True)
class ColumnNote:
    """What a column of a table was taken for.

    role: number, category, date; text, identifier, constant, empty, lists. distinct, missing: cells
    of it. example: one of them, as text.
    """

    name: str
    role: str
    is_used: bool
    distinct: int
    missing: int
    example: str


class Rows(Sequence[str]):
    """Where examples lie in tables: the row, counted from 1 in the file of its part.

    kept: the rows that are examples, of all files in a row; sizes: rows of each part's file.
    """

    def __init__(self, kept: Array, sizes: dict[str, int]) -> None:
        self.kept, self.sizes = kept, sizes

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, example: int) -> str:  # type: ignore[override]
        row = int(self.kept[example])
        for part, size in self.sizes.items():
            if row < size:
                return f"row {row + 1}" if len(self.sizes) == 1 else f"{part}, row {row + 1}"
            row -= size
        raise IndexError(example)


class Encoded(NamedTuple):
    """Examples and targets once the training part is known, and what was decided on the way."""

    x: Array
    y: Array
    schema: Schema
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Raw:
    """What a source reads: all examples in one array, official validation and test parts last."""

    x: Array
    y: Array
    schema: Schema
    official_test: int = 0
    official_valid: int = 0
    """How many examples just before the official test part are the official validation part."""
    missing: dict[str, int] = field(default_factory=dict)
    """Cells that each column lacks, or lacked in rows that were left out."""
    presplit: bool = False
    """Whether the official parts are all the parts there are to be."""
    encode: Callable[[Array], Encoded] | None = None
    """Of text and tables: takes the training part, by which they are encoded."""

    notices: tuple[str, ...] = ()
    """What was decided in reading, a line each."""
    columns: tuple[ColumnNote, ...] = ()
    """Of a table: every column but the target."""
    origins: Sequence[str] = ()
    """Where each example lies: a file, or a row. Empty where that is not known."""
    digests: Array | None = None
    """Of texts, a number each [N], equal for equal texts, which their tokens may not show."""

    @property
    def labels(self) -> Array | None:
        """The class numbers [N] by which a split is stratified; None where there are none."""
        if self.schema.task != "classification":
            return None
        return self.y
