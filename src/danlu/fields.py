"""A field of a recipe, declared by the row of a table that uses it.

An optimiser, schedule or model is a row; the row says which fields it reads. The sections of a
recipe, the messages, the docs and the plain loop are made from these declarations.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Field:
    """A field: its name, type, default and meaning.

    type: float, int, bool, str, a Literal, or a tuple of one of them.
    hint: a value to try. gt, ge, lt, le: bounds of a number, or of each number in a tuple.
    choices: the names that are allowed.
    """

    name: str
    type: Any
    default: Any
    description: str
    hint: str = ""
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    choices: Collection[str] | None = None

    def with_default(self, default: Any) -> Field:
        """Return the same field with the default of another row."""
        return replace(self, default=default)


def defaults(fields: Iterable[Field]) -> dict[str, Any]:
    """Return the defaults of a row's fields by name."""
    return {field.name: field.default for field in fields}


def declared(rows: Mapping[str, Iterable[Field]]) -> dict[str, Field]:
    """Return every field that some row of a table declares, in the order of the rows.

    Raises TypeError where two rows mean different things by one name.
    """
    known: dict[str, Field] = {}
    for row, fields in rows.items():
        for field in fields:
            first = known.setdefault(field.name, field)
            # Rows may differ in their defaults, and in nothing else.
            if field.with_default(first.default) != first:
                raise TypeError(f"row {row!r} declares the field {field.name!r} unlike the others")
    return known
