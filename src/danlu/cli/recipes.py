"""Commands that show, check and compare recipes."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

import typer

from danlu.cli.options import Json, Overrides, read_recipe


def recipe_show(
    name: Annotated[
        str | None, typer.Argument(metavar="[PRESET|FILE|RUN]", help="Default: the default recipe.")
    ] = None,
    overrides: Overrides = None,
    as_code: Annotated[
        bool, typer.Option("--as-code", help="The plain PyTorch loop it stands for.")
    ] = False,
    source: Annotated[str, typer.Option(help="The data the code loads.")] = "digits",
    json: Json = False,
) -> None:
    """Print a recipe as TOML, or as the plain PyTorch loop it stands for."""
    given = list(overrides or [])
    if name and "=" in name:
        given, name = [name, *given], None
    r = read_recipe(name, given)
    if as_code:
        from danlu.export.plain_loop import as_code as write_code

        print(write_code(r, source))
    else:
        print(jsonlib.dumps(r.to_dict(whole=True)) if json else r.to_toml())


def recipe_check(
    name: Annotated[str, typer.Argument(metavar="PRESET|FILE")],
    overrides: Overrides = None,
    source: Annotated[str | None, typer.Option(help="Also check that it fits these data.")] = None,
) -> None:
    """Say every mistake of a recipe, or that there is none."""
    r = read_recipe(name, overrides)
    if source:
        from danlu.data import load
        from danlu.train import check

        check(r, load(source))
    print("no mistakes")


def recipe_diff(
    a: Annotated[str, typer.Argument(metavar="A")],
    b: Annotated[str, typer.Argument(metavar="B")],
    json: Json = False,
) -> None:
    """What differs between two recipes (presets, files or runs)."""
    from danlu.recipe import Recipe
    from danlu.report.terminal.console import table

    found = Recipe.read(a).diff(Recipe.read(b))
    if json:
        print(jsonlib.dumps([{"field": k, "a": x, "b": y} for k, x, y in found]))
    elif found:
        table(
            ("field", a, b),
            [(k, "–" if x is None else x, "–" if y is None else y) for k, x, y in found],
        )
    else:
        print("no difference")


def recipe_fields(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page of the docs.")
    ] = False,
) -> None:
    """Every field with its default and what it does."""
    from danlu.report import fields

    if markdown:
        print(fields.markdown())
    else:
        fields.show_fields()


def recipe_presets() -> None:
    """The recipes that come with danlu."""
    from danlu.recipe.recipe import preset_text, presets

    for name in presets():
        print(f"{name:20} {preset_text(name).splitlines()[0].lstrip('# ')}")


def recipe_schema() -> None:
    """The JSON Schema of a recipe."""
    from danlu.recipe import Recipe

    print(jsonlib.dumps(Recipe.model_json_schema(), indent=1, ensure_ascii=False))
