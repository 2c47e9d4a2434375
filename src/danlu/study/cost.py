"""Refusing what would take very long, unless it is meant."""

from __future__ import annotations

from collections.abc import Sequence

from danlu.data import Data
from danlu.errors import RecipeError, clock
from danlu.recipe import Recipe
from danlu.train import estimate_seconds

MANY = 1000  # trainings that are not begun without a confirmation


def refuse_many(
    what: str, samples: Sequence[Recipe], trainings: int, data: Data, device: str
) -> None:
    """Raise RecipeError that says how many trainings there would be, and how long they would take.

    samples: some of their recipes, by which the time is estimated.
    """
    seconds_each = estimate_seconds(samples, data, device) / len(samples)
    raise RecipeError(
        f"{what} {trainings:,} trainings, about {clock(seconds_each * trainings)} on this machine; "
        "use --yes (yes=True) if that is meant"
    )
