"""Commands that show, check and compare recipes."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

import typer

from danlu.cli.opening import read_recipe
from danlu.cli.options import Json, Overrides, Trust
from danlu.report.terminal.json_output import print_json
from danlu.report.terminal.lines import tell


def show(
    name: Annotated[
        str | None, typer.Argument(metavar="[PRESET|FILE|RUN]", help="Default: the default recipe.")
    ] = None,
    overrides: Overrides = None,
    as_code: Annotated[
        bool, typer.Option("--as-code", help="The plain PyTorch loop it stands for.")
    ] = False,
    source: Annotated[str, typer.Option(help="The data the code loads.")] = "digits",
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Print a recipe as TOML, or as the plain PyTorch loop it stands for."""
    changes = list(overrides or [])
    # `danlu recipe show lr=0.1` has no name, only a change.
    if name and "=" in name:
        changes.insert(0, name)
        name = None
    recipe = read_recipe(name, changes, trust=trust)
    if as_code:
        from danlu.export import plain_loop

        tell(plain_loop.as_code(recipe, source))
    elif json:
        print_json(recipe.to_dict(whole=True))
    else:
        tell(recipe.to_toml())


def check(
    name: Annotated[str, typer.Argument(metavar="PRESET|FILE")],
    overrides: Overrides = None,
    source: Annotated[str | None, typer.Option(help="Also check that it fits these data.")] = None,
    trust: Trust = False,
) -> None:
    """Say every mistake of a recipe, or that there is none."""
    recipe = read_recipe(name, overrides, trust=trust)
    if source:
        from danlu import train
        from danlu.data import load

        train.check(recipe, load(source))
    print("no mistakes")


def diff(
    a: Annotated[str, typer.Argument(metavar="A")],
    b: Annotated[str, typer.Argument(metavar="B")],
    json: Json = False,
) -> None:
    """What differs between two recipes (presets, files or runs)."""
    from danlu.recipe import Recipe
    from danlu.report.terminal.console import table

    found = Recipe.read(a).diff(Recipe.read(b))
    if json:
        print_json([{"field": path, "a": here, "b": there} for path, here, there in found])
    elif found:
        rows = [["–" if cell is None else cell for cell in row] for row in found]
        table(("field", a, b), rows)
    else:
        print("no difference")


def fields(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page of the docs.")
    ] = False,
) -> None:
    """Every field with its default and what it does."""
    if markdown:
        from danlu.report.tables.fields import markdown as page

        print(page())
    else:
        from danlu.report.terminal.fields import show_fields

        show_fields()


def presets() -> None:
    """The recipes that come with danlu."""
    from danlu.recipe.presets import preset_text
    from danlu.recipe.presets import presets as names

    for name in names():
        first_line = preset_text(name).splitlines()[0]
        print(f"{name:20} {first_line.lstrip('# ')}")


def schema() -> None:
    """The JSON Schema of a recipe."""
    from danlu.recipe import Recipe

    print(jsonlib.dumps(Recipe.model_json_schema(), indent=1, ensure_ascii=False))
