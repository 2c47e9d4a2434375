"""The fields of a recipe, for `danlu recipe fields` and the docs."""

from __future__ import annotations

from typing import Any

from danlu.recipe import Recipe, fields
from danlu.recipe.recipe import flatten


def rows() -> list[tuple[str, str, str]]:
    """(path, default, description) of every field."""
    plain: dict[str, Any] = dict(flatten(Recipe().to_dict(whole=True)))
    return [
        (path, _shown(plain.get(path)), info.description or "") for path, info in fields().items()
    ]


def _shown(value: Any) -> str:
    return (
        "by variant"
        if value is None
        else ",".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )


def show_fields() -> None:
    """Print them."""
    from rich.table import Table

    from danlu.report.terminal.console import console

    t = Table("field", "default", "what it does", box=None, pad_edge=False, header_style="dim")
    for path, default, description in rows():
        t.add_row(path, default, description.replace("[", "\\["))
    console.print(t)


def markdown() -> str:
    """The same as a page of the docs."""
    head = '# Fields of a recipe\n\nWritten by `danlu recipe fields --markdown`. A default "by variant" is that of'
    lines = [
        head,
        "the model or rule that uses the field (`danlu recipe show model=cnn`).",
        "",
        "| field | default | what it does |",
        "|---|---|---|",
    ]
    return "\n".join(lines + [f"| `{p}` | {d} | {' '.join(t.split())} |" for p, d, t in rows()])
