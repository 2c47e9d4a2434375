"""How long a treatment may take: durations as people write them, and what fits into the rest."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from danlu.data import Data
from danlu.errors import RecipeError, clock, wrong
from danlu.recipe import Recipe
from danlu.train import estimate_seconds

_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def seconds_of(budget: str | float) -> float:
    """Return the seconds of a duration such as 10m, 90s, 1h30m, or a number of seconds.

    Raises RecipeError for anything else.
    """
    seconds = math.nan
    if isinstance(budget, (int, float)) and not isinstance(budget, bool):
        seconds = float(budget)
    elif isinstance(budget, str):
        text = budget.strip().lower()
        parts = _PART.findall(text)
        is_whole = bool(parts) and re.sub(r"\s", "", text) == "".join(n + unit for n, unit in parts)
        if is_whole and all(unit in _SECONDS for _, unit in parts):
            seconds = sum(float(n) * _SECONDS[unit] for n, unit in parts)
    if not 0 < seconds < math.inf:
        rule = "must be a duration above 0"
        raise RecipeError(wrong("budget", budget, rule, "try 10m, 90s or 1h30m"))
    return seconds


@dataclass
class Budget:
    """Seconds that may be spent, and those that were before this process."""

    seconds: float
    spent_before: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Seconds spent so far."""
        return self.spent_before + time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.seconds - self.spent


def affordable(
    candidates: Sequence[Recipe], control: Recipe, seeds: tuple[int, int], data: Data, left: float
) -> int:
    """Return how many of the candidates, the first ones, can be tried in the seconds left.

    seeds: of screening, and of confirmation, which follows for one of them.
    """
    screened, confirmed = seeds
    spent = _seconds([control], screened, data)
    for k, candidate in enumerate(candidates):
        alone = _seconds([candidate], 1, data)
        spent += screened * alone
        confirming = confirmed * (alone + _seconds([control], 1, data))
        if spent + confirming > left:
            return k
    return len(candidates)


def refuse_small(
    budget: str | float,
    candidate: Recipe,
    control: Recipe,
    seeds: tuple[int, int],
    data: Data,
) -> None:
    """Raise RecipeError for a budget too small for one trial, with how long one takes."""
    trainings = sum(seeds)
    seconds = _seconds([control, candidate], trainings, data)
    rule = (
        f"must be enough for one trial, an edit and the control with {trainings} seeds each: "
        f"about {clock(max(1, seconds))}"
    )
    raise RecipeError(wrong("budget", budget, rule, f"try {max(1, math.ceil(seconds / 15))}m"))


def _seconds(recipes: Sequence[Recipe], seeds: int, data: Data) -> float:
    """Return about how long it takes to train each recipe with so many seeds."""
    replicates = [r.with_(seed=r.seed + k) for r in recipes for k in range(seeds)]
    return estimate_seconds(replicates, data)
