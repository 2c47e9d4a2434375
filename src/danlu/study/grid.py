"""A grid of variants from `field=a,b,…`: every combination of the values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from danlu.errors import RecipeError, some, unknown
from danlu.recipe import Recipe, fields
from danlu.recipe.recipe import parse_value, resolve

Grid = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Variant:
    """A recipe of the grid and the values that tell it from the others."""

    values: tuple[tuple[str, Any], ...]
    recipe: Recipe

    @property
    def name(self) -> str:
        """The values in words: "optimizer=sgd lr=0.1"."""
        return " ".join(f"{short(path)}={show(value)}" for path, value in self.values) or "recipe"


def canonical(path: str) -> str:
    """The field that a section's short form sets: optimizer.name for optimizer."""
    whole = resolve(path)
    return f"{whole}.name" if f"{whole}.name" in fields() else whole


def look(recipe: Recipe, path: str) -> Any:
    """The value at a full path, also below model.args."""
    held: Any = recipe.to_dict(whole=True)
    for part in path.split("."):
        held = held.get(part) if isinstance(held, dict) else None
    return held


def short(path: str) -> str:
    """A path as people would write it: optimizer for optimizer.name."""
    return path.removesuffix(".name")


def show(value: Any) -> str:
    """A value as it is written in a grid."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(show, value)) + "]"
    return (
        f"{value:.6g}"
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def parse(texts: Sequence[str]) -> dict[str, list[Any]]:
    """From `field=a,b,…`; a value that is itself a list is written in brackets: model.hidden=[64],[100,100].

    Raises RecipeError for unknown fields and empty values, all at once.
    """
    grid: dict[str, list[Any]] = {}
    mistakes: list[str] = []
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals:
            mistakes.append(f"`{text}` is no field=value,…; write, for example, optimizer=sgd,adam")
            continue
        try:
            path = canonical(key.strip())
        except RecipeError as e:
            mistakes += e.mistakes
            continue
        pieces = [p.strip() for p in re.split(r",(?![^\[]*\])", values)]
        if not all(pieces):
            mistakes.append(f"`{text}` has an empty value; write, for example, {key}=a,b")
            continue
        if path in grid:
            mistakes.append(twice(path))
        grid[path] = [parse_value(p, path) for p in pieces]
    if mistakes:
        raise RecipeError(*mistakes)
    return grid


def twice(path: str) -> str:
    """The mistake of naming a field in two places."""
    return f"`{short(path)}` is given twice; name all its values at once: {short(path)}=a,b"


def value_mistakes(path: str, values: Sequence[Any]) -> list[str]:
    """What is wrong with a list of values of a field, if anything."""
    shown = [show(v) for v in values]
    repeated = sorted({v for v in shown if shown.count(v) > 1})
    if not values:
        return [f"`{path}` has no values; name at least one"]
    if not repeated:
        return []
    layers = f"; for one network write {short(path)}=[{','.join(v.strip('[]') for v in shown)}]"
    return [
        f"`{short(path)}` names {some(repeated)} more than once{layers if path == 'model.hidden' else ''}"
    ]


def expand(grid: Grid, base: Recipe) -> list[Variant]:
    """Every combination over the base recipe. Raises RecipeError, with the variant, for those that cannot be."""
    paths = [resolve(k) if _sections(v) else canonical(k) for k, v in grid.items()]
    mistakes = [twice(p) for p in dict.fromkeys(paths) if paths.count(p) > 1]
    grid = {
        p: list(v) if isinstance(v, (list, tuple)) else [v]
        for p, v in zip(paths, grid.values(), strict=True)
    }
    for path, values in grid.items():
        mistakes += value_mistakes(path, values)
        if path in ("seed", "data_seed"):
            mistakes.append(
                f"`{path}` cannot be a field of the grid: every variant is trained with the same seeds; use --seeds"
            )
    if mistakes:
        raise RecipeError(*mistakes)
    varied = [p for p, v in grid.items() if len(v) > 1]
    out: list[Variant] = []
    for combination in itertools.product(*grid.values()):
        chosen = dict(zip(grid, combination, strict=True))
        variant = tuple((p, chosen[p]) for p in varied)
        try:
            out.append(Variant(variant, base.with_(**chosen)))
        except RecipeError as e:
            name = Variant(variant, base).name
            mistakes += [f"{m} (variant {name})" if varied else m for m in e.mistakes]
    if mistakes:
        raise RecipeError(*dict.fromkeys(mistakes))
    return out


def _sections(values: Any) -> bool:
    """Whether values are whole sections, as tables of names and values."""
    return any(
        isinstance(v, dict) for v in (values if isinstance(values, (list, tuple)) else [values])
    )


def find(name: str, variants: Sequence[Variant]) -> int:
    """The number of the variant that `name` means: its whole name, or any value or field=value that only one has."""
    names = [v.name for v in variants]
    if name in names:
        return names.index(name)
    wanted = name.split()
    fits = [i for i, v in enumerate(variants) if all(_has(v, w) for w in wanted)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise RecipeError(
            f"`control` is {name!r}, but that fits {len(fits)} variants; write one of {some(names, 6)}"
        )
    raise RecipeError(unknown("control", name, names))


def _has(variant: Variant, word: str) -> bool:
    key, equals, value = word.rpartition("=")
    return any(
        show(v) == value and (not equals or short(p) == key or p.endswith(f".{key}"))
        for p, v in variant.values
    )
