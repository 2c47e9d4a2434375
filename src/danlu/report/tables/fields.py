"""The fields of a recipe, for `danlu recipe fields` and the docs."""

from __future__ import annotations

from typing import Any, NamedTuple

from danlu.recipe import Recipe, fields, flatten
from danlu.recipe.aliases import FIELDS as FORMER_FIELDS

_HEAD = """# Fields of a recipe

Written by `danlu recipe fields --markdown`. A default "by variant" is that of
the model or rule that uses the field (`danlu recipe show model=cnn`).

| field | default | what it does |
|---|---|---|"""
_FORMER_HEAD = """
## Former names

These are still understood.

| before | now |
|---|---|"""


class FieldRow(NamedTuple):
    """A field: its path, its default in words, what it does."""

    path: str
    default: str
    description: str


def field_rows() -> list[FieldRow]:
    """Return every field."""
    every_field = Recipe().to_dict(whole=True)
    defaults: dict[str, Any] = dict(flatten(every_field))
    rows = []
    for path, info in fields().items():
        description = " ".join((info.description or "").split())
        default = _shown(defaults.get(path))
        rows.append(FieldRow(path, default, description))
    return rows


def _shown(value: Any) -> str:
    if value is None:
        return "by variant"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)


def markdown() -> str:
    """Return the fields as a page of the docs."""
    lines = [_HEAD]
    for row in field_rows():
        lines.append(f"| `{row.path}` | {row.default} | {row.description} |")
    lines.append(_FORMER_HEAD)
    for old, new in FORMER_FIELDS.items():
        lines.append(f"| `{old}` | `{new}` |")
    return "\n".join(lines)
