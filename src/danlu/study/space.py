"""The space of a search from `field=low..high`, `field=low..high:log`, `field=a,b,…`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from danlu.errors import Mistake, RecipeError
from danlu.recipe import Recipe, fields
from danlu.recipe.overrides import show
from danlu.recipe.sections import used_by_variants
from danlu.study import grid as grids
from danlu.study.grid import SEED_FIELDS, short

# Share of a range's width that is left on both sides of the best when it is narrowed.
_LEAST_MARGIN = 0.05
_EXAMPLE = "1e-5..1e-1:log"


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, uniform or, with `log`, uniform in their logarithm.

    whole: whole numbers only, as the field decides.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        scale = ":log" if self.log else ""
        return f"{self.low:.4g}..{self.high:.4g}{scale}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values as a study keeps them."""
        return asdict(self)

    def to_unit(self, value: float) -> float:
        """Return where a value lies between the ends, 0 to 1, on the range's own scale."""
        low = self._scaled(self.low)
        high = self._scaled(self.high)
        return (self._scaled(value) - low) / (high - low)

    def _scaled(self, value: float) -> float:
        if self.log:
            return math.log(value)
        return float(value)

    def _unscaled(self, value: float) -> float:
        if self.log:
            return math.exp(value)
        return value

    def narrowed(self, best: Sequence[float]) -> Range:
        """Return the part of the range where the best values lie.

        With half the gap between neighbours to spare on both sides; all of it without any.
        """
        if not best:
            return self
        places = sorted(self._scaled(value) for value in best)
        first, last = places[0], places[-1]
        gaps = len(places) - 1
        half_gap = (last - first) / max(1, 2 * gaps)
        width = self._scaled(self.high) - self._scaled(self.low)
        # Where all agree there is no gap, yet some room is needed around them.
        margin = max(half_gap, _LEAST_MARGIN * width)
        low = self._unscaled(first - margin)
        high = self._unscaled(last + margin)
        # Never beyond what was asked for.
        low = max(self.low, low)
        high = min(self.high, high)
        if self.whole:
            low = math.floor(low)
            high = math.ceil(high)
        if low >= high:
            return self
        return Range(low, high, self.log, self.whole)

    def ends(self) -> list[Any]:
        """Return the values at both ends."""
        if self.whole:
            return [int(self.low), int(self.high)]
        return [self.low, self.high]


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ",".join(map(show, self.values))

    def to_json(self) -> dict[str, Any]:
        """Return plain values as a study keeps them."""
        values = [list(value) if isinstance(value, tuple) else value for value in self.values]
        return {"values": values}

    def narrowed(self, best: Sequence[Any]) -> Choice:
        """Return the values found among the best."""
        if not best:
            return self
        return Choice(tuple(value for value in self.values if value in best))

    def ends(self) -> list[Any]:
        """Return all values."""
        return list(self.values)


Space = Mapping[str, Range | Choice]


def from_json(kept: Mapping[str, Any]) -> Range | Choice:
    """Return a range or choice as a study keeps it."""
    if "values" in kept:
        return Choice(tuple(kept["values"]))
    return Range(**kept)


@dataclass
class Settled:
    """A space in its parts: what is searched, and what is fixed, by full path."""

    searched: dict[str, Range | Choice]
    fixed: dict[str, Any]

    def add(self, path: str, value: Any) -> None:
        """Add a field: searched for a range or choice, else fixed."""
        if path in self.searched or path in self.fixed:
            raise RecipeError(grids.given_twice(path))
        if isinstance(value, (Range, Choice)):
            self.searched[path] = value
        else:
            self.fixed[path] = value


def parse(texts: Sequence[str]) -> Settled:
    """Return the space of texts. Raises RecipeError, all mistakes at once."""
    settled = Settled({}, {})
    mistakes: list[Mistake] = []
    for text in texts:
        try:
            settled.add(*_parse_one(text))
        except RecipeError as e:
            mistakes += e.mistakes
    if mistakes:
        raise RecipeError(*mistakes)
    return settled


def _parse_one(text: str) -> tuple[str, Any]:
    key, equals, given = text.partition("=")
    if not equals:
        raise RecipeError(
            f"`{text}` is not of the form field=range; write, for example, optimizer.lr={_EXAMPLE}"
        )
    path = grids.canonical(key.strip())
    # A field of names may hold dots, such as a file's.
    if ".." in given and _takes_numbers(path):
        return path, _parse_range(path, text, given.strip())
    ((path, values),) = grids.parse([text]).items()
    if len(values) > 1:
        return path, Choice(tuple(values))
    return path, values[0]


def _takes_numbers(path: str) -> bool:
    """Whether a field may hold a number; nothing is known of arguments of anyone's own network."""
    info = fields().get(path)
    if info is None:
        return True
    kind = str(info.annotation)
    return "int" in kind or "float" in kind


def _takes_whole_numbers(path: str, low: float, high: float) -> bool:
    """Whether a field takes whole numbers only: by its type, else if both ends are whole."""
    info = fields().get(path)
    if info is None:
        return isinstance(low, int) and isinstance(high, int)
    kind = str(info.annotation)
    return "int" in kind and "float" not in kind.lower()


def _parse_range(path: str, text: str, given: str) -> Range:
    ends, colon, scale = given.partition(":")
    low_text, _, high_text = ends.partition("..")
    try:
        low, high = _number(low_text), _number(high_text)
    except ValueError:
        raise RecipeError(
            f"`{text}` is not a range of numbers; write, for example, {short(path)}={_EXAMPLE}"
        ) from None
    if colon and scale != "log":
        raise RecipeError(f"`{text}` ends in {scale!r}, but a range can only be :log")
    turned = f"{short(path)}={high_text}..{low_text}{colon}{scale}"
    return _checked_range(path, text, Range(low, high, bool(colon)), turned)


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _checked_range(path: str, text: str, given: Range, turned: str) -> Range:
    """Return the range with `whole` as its field has it.

    turned: the text with both ends exchanged. Raises RecipeError for a range that holds nothing, or
    no such numbers.
    """
    low, high = given.low, given.high
    if not _is_finite(low) or not _is_finite(high):
        raise RecipeError(f"`{text}` must have two finite ends, such as {short(path)}={_EXAMPLE}")
    if low > high:
        raise RecipeError(f"`{text}` is an empty range; did you mean {turned}?")
    if low == high:
        raise RecipeError(f"`{text}` is an empty range")
    if given.log and low <= 0:
        raise RecipeError(
            f"`{text}` is a log range through zero; its lower end must be greater than 0, "
            "such as 1e-8"
        )
    whole = _takes_whole_numbers(path, low, high)
    if whole and not (float(low).is_integer() and float(high).is_integer()):
        raise RecipeError(f"`{text}` must run between whole numbers")
    return Range(low, high, given.log, whole)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def settle(
    space: Mapping[str, Any] | Sequence[str], recipe: Recipe
) -> tuple[dict[str, Range | Choice], Recipe, list[Recipe]]:
    """Return what is searched, the recipe with what is fixed, and recipes at the ends of the space.

    space: in any of its forms. Raises RecipeError, all mistakes at once.
    """
    settled = _from_mapping(space) if isinstance(space, Mapping) else parse(space)
    base = recipe.with_(**settled.fixed)
    return settled.searched, base, _recipes_at_ends(settled.searched, base)


def _from_mapping(space: Mapping[str, Any]) -> Settled:
    """As `parse`, from values by field."""
    settled = Settled({}, {})
    mistakes: list[Mistake] = []
    for key, given in space.items():
        try:
            path = grids.canonical(key)
            settled.add(path, _from_value(path, key, given))
        except RecipeError as e:
            mistakes += e.mistakes
    if mistakes:
        raise RecipeError(*mistakes)
    return settled


def _from_value(path: str, key: str, given: Any) -> Any:
    """Return what a value of a mapping means: a range, a choice, or what is fixed."""
    if isinstance(given, Range):
        turned = Range(given.high, given.low, given.log)
        return _checked_range(path, f"{short(path)}={given}", given, f"{short(path)}={turned}")
    if isinstance(given, (list, tuple)):
        return Choice(tuple(given))
    if isinstance(given, str) and ".." in given and _takes_numbers(path):
        return _parse_range(path, f"{key}={given}", given)
    return given


def _variant_with(path: str, space: Space) -> dict[str, Any]:
    """Return a variant among those searched that uses a field: {"optimizer.name": "momentum"}.

    Raises RecipeError where none does.
    """
    section, _, _ = path.partition(".")
    name_path = f"{section}.name"
    variants = space.get(name_path)
    if not isinstance(variants, Choice) or path == name_path:
        return {}
    for name in variants.values:
        if path in used_by_variants({name_path: name, path: None}):
            return {name_path: name}
    raise RecipeError(f"`{path}` is not used by any of {variants}; leave it out")


def _recipes_at_ends(space: Space, base: Recipe) -> list[Recipe]:
    """Return the recipe with each field at each of its ends.

    Raises RecipeError for a space whose ends it cannot take, all mistakes at once.
    """
    mistakes: list[Mistake | str] = []
    if not space:
        mistakes.append(
            f"nothing is searched; give a range or several values, such as optimizer.lr={_EXAMPLE}"
        )
    for path, searched in space.items():
        if isinstance(searched, Choice):
            mistakes += grids.value_mistakes(path, searched.values)
        if path in SEED_FIELDS:
            mistakes.append(
                f"`{path}` cannot be searched: it is luck; "
                "danlu compare --seeds shows how much of it there is"
            )
    if mistakes:
        raise RecipeError(*mistakes)
    # One field at a time: all combinations of the ends would be too many.
    first_ends = {path: searched.ends()[0] for path, searched in space.items()}
    recipes = []
    for path, searched in space.items():
        others = {**first_ends, **_variant_with(path, space)}
        for value in searched.ends():
            try:
                recipes.append(base.with_(**used_by_variants({**others, path: value})))
            except RecipeError as e:
                mistakes += e.mistakes
    if mistakes:
        raise RecipeError(*dict.fromkeys(mistakes))
    return recipes
