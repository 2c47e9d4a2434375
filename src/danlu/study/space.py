"""The space of a search from `field=low..high`, `field=low..high:log`, `field=a,b,…`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from danlu.errors import RecipeError
from danlu.recipe import Recipe, fields
from danlu.study import grid as grids
from danlu.study.grid import short, show

_LEAST = 0.05  # of a range's width is left on both sides of the best when it is narrowed


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, uniform or, with `log`, uniform in their logarithm; `whole` ones are set by the field."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.low:.4g}..{self.high:.4g}{':log' if self.log else ''}"

    def to_json(self) -> dict[str, Any]:
        """The inverse of `from_json`."""
        return {"low": self.low, "high": self.high, "log": self.log, "whole": self.whole}

    def narrowed(self, best: Sequence[float]) -> Range:
        """The part of the range where the best values lie, with half the gap between neighbours to spare on both sides."""
        there, back = (math.log, math.exp) if self.log else (float, float)
        x = sorted(there(v) for v in best)
        gap = (x[-1] - x[0]) / max(1, 2 * (len(x) - 1))
        spare = max(gap, _LEAST * (there(self.high) - there(self.low)))  # where all agree
        low, high = max(self.low, back(x[0] - spare)), min(self.high, back(x[-1] + spare))
        if self.whole:
            low, high = math.floor(low), math.ceil(high)
        return Range(low, high, self.log, self.whole) if low < high else self


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ",".join(map(show, self.values))

    def to_json(self) -> dict[str, Any]:
        """The inverse of `from_json`."""
        return {"values": [list(v) if isinstance(v, tuple) else v for v in self.values]}

    def narrowed(self, best: Sequence[Any]) -> Choice:
        """The values found among the best."""
        return Choice(tuple(v for v in self.values if v in best)) if best else self


def from_json(told: Mapping[str, Any]) -> Range | Choice:
    """A range or choice as a study keeps it."""
    return Choice(tuple(told["values"])) if "values" in told else Range(**told)


Space = Mapping[str, "Range | Choice"]


def parse(texts: Sequence[str]) -> tuple[dict[str, Range | Choice], dict[str, Any]]:
    """(what is searched, what is fixed) by full path. Raises RecipeError, all mistakes at once."""
    space: dict[str, Range | Choice] = {}
    fixed: dict[str, Any] = {}
    mistakes: list[str] = []
    for text in texts:
        key, equals, said = text.partition("=")
        try:
            if not equals:
                raise RecipeError(
                    f"`{text}` is no field=range; write, for example, optimizer.lr=1e-5..1e-1:log"
                )
            path = grids.canonical(key.strip())
            if path in space or path in fixed:
                raise RecipeError(grids.twice(path))
            if ".." in said and _takes_numbers(path):
                space[path] = _range(path, text, said.strip())
            else:
                ((path, values),) = grids.parse([text]).items()
                if len(values) > 1:
                    space[path] = Choice(tuple(values))
                else:
                    fixed[path] = values[0]
        except RecipeError as e:
            mistakes += e.mistakes
    if mistakes:
        raise RecipeError(*mistakes)
    return space, fixed


def _takes_numbers(path: str) -> bool:
    """Whether a field may hold a number; of arguments of somebody's network nothing is known."""
    info = fields().get(path)
    return info is None or any(kind in str(info.annotation) for kind in ("int", "float"))


def _takes_whole(path: str, low: float, high: float) -> bool:
    """Whether a field takes whole numbers only: by its type, or where that is not known, if both ends are whole."""
    info = fields().get(path)
    if info is None:
        return isinstance(low, int) and isinstance(high, int)
    return "int" in str(info.annotation) and "float" not in str(info.annotation).lower()


def _range(path: str, text: str, said: str) -> Range:
    body, colon, scale = said.partition(":")
    low_text, _, high_text = body.partition("..")
    try:
        low, high = _number(low_text), _number(high_text)
    except ValueError:
        raise RecipeError(
            f"`{text}` is no range of numbers; write, for example, {short(path)}=1e-5..1e-1:log"
        ) from None
    if colon and scale != "log":
        raise RecipeError(f"`{text}` ends in {scale!r}, but a range can only be :log")
    return _sound(
        path,
        text,
        Range(low, high, bool(colon)),
        f"{short(path)}={high_text}..{low_text}{colon}{scale}",
    )


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _sound(path: str, text: str, r: Range, turned: str) -> Range:
    """The range with `whole` as its field has it. Raises RecipeError for one that holds nothing, or not such numbers."""
    if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in (r.low, r.high)):
        raise RecipeError(
            f"`{text}` must have two finite ends, such as {short(path)}=1e-5..1e-1:log"
        )
    if not r.low < r.high:
        raise RecipeError(
            f"`{text}` is an empty range" + (f"; did you mean {turned}?" if r.low > r.high else "")
        )
    if r.log and r.low <= 0:
        raise RecipeError(
            f"`{text}` is a log range through zero; its lower end must be greater than 0, such as 1e-8"
        )
    whole = _takes_whole(path, r.low, r.high)
    if whole and not (float(r.low).is_integer() and float(r.high).is_integer()):
        raise RecipeError(f"`{text}` must run between whole numbers")
    return Range(r.low, r.high, r.log, whole)


def settle(
    space: Mapping[str, Any] | Sequence[str], recipe: Recipe
) -> tuple[dict[str, Range | Choice], Recipe, list[Recipe]]:
    """(what is searched, the recipe with what is fixed, recipes at the ends) of a space in any of its forms.

    Raises RecipeError, all mistakes at once.
    """
    searched, fixed = _read(space) if isinstance(space, Mapping) else parse(space)
    base = recipe.with_(**fixed)
    return searched, base, _at_the_ends(searched, base)


def _read(space: Mapping[str, Any]) -> tuple[dict[str, Range | Choice], dict[str, Any]]:
    """As `parse`, from values by field."""
    searched: dict[str, Range | Choice] = {}
    fixed: dict[str, Any] = {}
    mistakes: list[str] = []
    for key, given in space.items():
        try:
            path = grids.canonical(key)
            if path in searched or path in fixed:
                raise RecipeError(grids.twice(path))
            if isinstance(given, Range):
                text = f"{short(path)}={given}"
                turned = f"{short(path)}={Range(given.high, given.low, given.log)}"
                searched[path] = _sound(path, text, given, turned)
            elif isinstance(given, (Choice, list, tuple)):
                searched[path] = given if isinstance(given, Choice) else Choice(tuple(given))
            elif isinstance(given, str) and ".." in given and _takes_numbers(path):
                searched[path] = _range(path, f"{key}={given}", given)
            else:
                fixed[path] = given
        except RecipeError as e:
            mistakes += e.mistakes
    if mistakes:
        raise RecipeError(*mistakes)
    return searched, fixed


def _at_the_ends(space: Space, base: Recipe) -> list[Recipe]:
    """The recipe with each field at each of its ends. Refuses a space whose ends it cannot take, all mistakes at once."""
    mistakes: list[str] = []
    if not space:
        mistakes.append(
            "nothing is searched; give a range or several values, such as optimizer.lr=1e-5..1e-1:log"
        )
    for path, s in space.items():
        if isinstance(s, Choice):
            mistakes += grids.value_mistakes(path, s.values)
        if path in ("seed", "data_seed"):
            mistakes.append(
                f"`{path}` cannot be searched: it is luck; danlu compare --seeds shows how much of it there is"
            )
    if mistakes:
        raise RecipeError(*mistakes)
    first = {p: _ends(s)[0] for p, s in space.items()}
    found = []
    for path, s in space.items():
        for value in _ends(s):
            try:
                found.append(base.with_(**{**first, path: value}))
            except RecipeError as e:
                mistakes += [m for m in e.mistakes if m not in mistakes]
    if mistakes:
        raise RecipeError(*mistakes)
    return found


def _ends(s: Range | Choice) -> list[Any]:
    """The values at the ends of a range, or all choices."""
    if isinstance(s, Choice):
        return list(s.values)
    return [int(v) if s.whole else v for v in (s.low, s.high)]
