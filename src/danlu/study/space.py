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


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, uniform or, with `log`, uniform in their logarithm; `whole` ones for whole fields."""

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
        spare = (x[-1] - x[0]) / max(1, 2 * (len(x) - 1))
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
        return {"values": list(self.values)}

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
                raise RecipeError(f"`{text}` is no field=range; write, for example, optimizer.lr=1e-5..1e-1:log")
            if ".." in said:
                path = grids.canonical(key.strip())
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


def _range(path: str, text: str, said: str) -> Range:
    body, colon, scale = said.partition(":")
    low_text, _, high_text = body.partition("..")
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        raise RecipeError(f"`{text}` is no range of numbers; write, for example, {short(path)}=1e-5..1e-1:log") from None
    if colon and scale != "log":
        raise RecipeError(f"`{text}` ends in {scale!r}, but a range can only be :log")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        hint = f"; did you mean {short(path)}={high_text}..{low_text}?" if low > high else ""
        raise RecipeError(f"`{text}` is an empty range{hint}")
    if colon and low <= 0:
        raise RecipeError(f"`{text}` is a log range through zero; its lower end must be greater than 0, such as 1e-8")
    info = fields().get(path)
    whole = info is not None and "int" in str(info.annotation) and "float" not in str(info.annotation).lower()
    if whole and not (low.is_integer() and high.is_integer()):
        raise RecipeError(f"`{text}` must run between whole numbers")
    return Range(low, high, bool(colon), whole)


def check(space: Space, base: Recipe) -> None:
    """Refuse a space whose ends the recipe cannot take. All mistakes at once."""
    mistakes: list[str] = []
    if not space:
        mistakes.append("nothing is searched; give a range or several values, such as optimizer.lr=1e-5..1e-1:log")
    first = {p: ends(s)[0] for p, s in space.items()}
    for path, s in space.items():
        if path in ("seed", "data_seed"):
            mistakes.append(f"`{path}` is luck, not a choice; compare seeds with danlu compare --seeds")
        for value in ends(s):
            try:
                base.with_(**{**first, path: value})
            except RecipeError as e:
                mistakes += [m for m in e.mistakes if m not in mistakes]
    if mistakes:
        raise RecipeError(*mistakes)


def ends(s: Range | Choice) -> list[Any]:
    """The values at the ends of a range, or all choices."""
    if isinstance(s, Choice):
        return list(s.values)
    return [int(v) if s.whole else v for v in (s.low, s.high)]
