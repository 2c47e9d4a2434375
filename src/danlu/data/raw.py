"""What a source reads, before it is split and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from danlu.data.memmap import Array
from danlu.data.schema import Schema


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
    """Cells that each column lacked, in rows that were left out."""
    presplit: bool = False
    """Whether the official parts are all the parts there are to be."""
    encode: Callable[[Array], tuple[Array, Array, Schema]] | None = None
    """Of text: returns x, y and schema of all of it, once the training part is known."""

    @property
    def labels(self) -> Array | None:
        """The class numbers [N] by which a split is stratified; None where there are none."""
        if self.schema.task != "classification":
            return None
        return self.y
