"""A grid of variants from `field=a,b,…`: every combination of the values."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from danlu.errors import Mistake, RecipeError, some, unknown
from danlu.recipe import Recipe, fields
from danlu.recipe.aliases import FIELDS as FORMER_FIELDS
from danlu.recipe.overrides import parse_value, resolve, show

Grid = Mapping[str, Sequence[Any]]
SEED_FIELDS = ("seed", "data_seed")
_COMMA_OUTSIDE_BRACKETS = re.compile(r",(?![^\[]*\])")


@dataclass(frozen=True)
class Variant:
    """A recipe of the grid, and the values that distinguish it from the others."""

    values: tuple[tuple[str, Any], ...]
    recipe: Recipe
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The values in words: "optimizer=sgd lr=0.1"."""
        return name_of(self.values, self.names)


def name_of(values: Sequence[tuple[str, Any]], names: Mapping[str, str] | None = None) -> str:
    """Return a variant's values in words; names: of values that have one."""
    words = []
    for path, value in values:
        shown = show(value)
        words.append((names or {}).get(shown) or f"{short(path)}={shown}")
    return " ".join(words) or "recipe"


def canonical(path: str) -> str:
    """Return the field that a section's short form sets: optimizer.name for optimizer.

    Raises RecipeError for what is not a field.
    """
    full = resolve(path, fields())
    full = FORMER_FIELDS.get(full, full)
    name_of_section = f"{full}.name"
    if name_of_section in fields():
        return name_of_section
    return full


def short(path: str) -> str:
    """Return a path as people would write it: optimizer for optimizer.name."""
    return path.removesuffix(".name")


def parse(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return values by field from `field=a,b,…`.

    A value that is itself a list is written in brackets: model.hidden=[64],[100,100]. Raises
    RecipeError for unknown fields and empty values, all at once.
    """
    grid: dict[str, list[Any]] = {}
    mistakes: list[Mistake] = []
    for text in texts:
        try:
            path, values = _parse_one(text)
            if path in grid:
                raise RecipeError(given_twice(path))
            grid[path] = values
        except RecipeError as e:
            mistakes += e.mistakes
    if mistakes:
        raise RecipeError(*mistakes)
    return grid


def _parse_one(text: str) -> tuple[str, list[Any]]:
    key, equals, written = text.partition("=")
    if not equals:
        raise RecipeError(
            f"`{text}` is not of the form field=value,…; write, for example, optimizer=sgd,adam"
        )
    path = canonical(key.strip())
    pieces = [piece.strip() for piece in _COMMA_OUTSIDE_BRACKETS.split(written)]
    if not all(pieces):
        raise RecipeError(f"`{text}` has an empty value; write, for example, {key}=a,b")
    info = fields().get(path)
    return path, [parse_value(piece, info) for piece in pieces]


def given_twice(path: str) -> str:
    """Return the mistake of naming a field in two places."""
    name = short(path)
    return f"`{name}` is given twice; name all its values at once: {name}=a,b"


def value_mistakes(path: str, values: Sequence[Any]) -> list[str]:
    """Return what is wrong with a list of values of a field, if anything."""
    if not values:
        return [f"`{path}` has no values; name at least one"]
    shown = [show(value) for value in values]
    repeated = [value for value, times in Counter(shown).items() if times > 1]
    if not repeated:
        return []
    hint = ""
    if path == "model.hidden":
        # Who writes hidden=64,64 means one network of two layers.
        layers = ",".join(value.strip("[]") for value in shown)
        hint = f"; for one network write {short(path)}=[{layers}]"
    return [f"`{short(path)}` names {some(sorted(repeated))} more than once{hint}"]


def expand(grid: Grid, base: Recipe, names: Mapping[str, str] | None = None) -> list[Variant]:
    """Return every combination over the base recipe; names: of values that have one.

    Raises RecipeError, naming the variant, for combinations that are not valid.
    """
    grid = _checked(grid)
    # A field with one value distinguishes nothing, so no name has it.
    varied = [path for path, values in grid.items() if len(values) > 1]
    variants: list[Variant] = []
    mistakes: list[Mistake] = []
    for combination in itertools.product(*grid.values()):
        chosen = dict(zip(grid, combination, strict=True))
        values = tuple((path, chosen[path]) for path in varied)
        try:
            recipe = base.with_(**chosen)
        except RecipeError as e:
            note = f"(variant {name_of(values, names)})"
            for mistake in e.mistakes:
                mistakes.append(mistake.with_note(note) if varied else mistake)
        else:
            variants.append(Variant(values, recipe, names or {}))
    if mistakes:
        raise RecipeError(*dict.fromkeys(mistakes))
    return variants


def _checked(grid: Grid) -> dict[str, list[Any]]:
    """Return the grid with full paths and lists of values. Raises RecipeError."""
    checked: dict[str, list[Any]] = {}
    mistakes: list[str] = []
    for key, given in grid.items():
        values = list(given) if isinstance(given, (list, tuple)) else [given]
        # A dictionary is a whole section, not a value of the field that the section's name means.
        has_whole_sections = any(isinstance(value, dict) for value in values)
        path = resolve(key, fields()) if has_whole_sections else canonical(key)
        if path in checked:
            mistakes.append(given_twice(path))
        checked[path] = values
        mistakes += value_mistakes(path, values)
        if path in SEED_FIELDS:
            mistakes.append(
                f"`{path}` cannot be a field of the grid: every variant is trained with the same "
                "seeds; use --seeds"
            )
    if mistakes:
        raise RecipeError(*dict.fromkeys(mistakes))
    return checked


def find(name: str, variants: Sequence[Variant]) -> int:
    """Return the number of the variant that `name` means.

    Its whole name, or any value or field=value that only one has. Raises RecipeError.
    """
    names = [variant.name for variant in variants]
    if name in names:
        return names.index(name)
    words = name.split()
    fitting = []
    for i, variant in enumerate(variants):
        if all(_has(variant, word) for word in words):
            fitting.append(i)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise RecipeError(
            f"`control` is {name!r}, but that fits {len(fitting)} variants; "
            f"write one of {some(names, 6)}"
        )
    raise RecipeError(unknown("control", name, names))


def _has(variant: Variant, word: str) -> bool:
    """Whether a variant has a value, or a field=value."""
    key, equals, wanted = word.rpartition("=")
    for path, value in variant.values:
        names_field = not equals or short(path) == key or path.endswith(f".{key}")
        shown = show(value)
        if names_field and wanted in (shown, variant.names.get(shown)):
            return True
    return False
