"""`check`: the checks of the table, one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from danlu.data import Data, load
from danlu.diagnosis.checkup.start import Start
from danlu.diagnosis.checkup.table import CHECKS, OK, SKIPPED, WRONG, Checked, learning_rate
from danlu.errors import RecipeError, wrong
from danlu.guest import guest
from danlu.models.given import Network
from danlu.recipe import Recipe
from danlu.train import check as check_fits
from danlu.train.dispatch.fit import recipe_for

SECONDS = 5.0


@dataclass(frozen=True)
class Checkup:
    """What was found before training."""

    checks: Sequence[Checked]
    source: str
    seconds: float

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong; there may be something to look at."""
        return all(check.state != WRONG for check in self.checks)

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    def __getitem__(self, name: str) -> Checked:
        return next(check for check in self.checks if check.name == name)

    def sentences(self, language: str = "en") -> list[str]:
        """Return what is not as it should be, or that all is."""
        found = [c for c in self.checks if c.state not in (OK, SKIPPED)]
        return [f"{c.title(language)}: {c.why(language)}" for c in found]

    def to_json(self, language: str = "en") -> dict[str, Any]:
        """Return plain values."""
        return {
            "source": self.source,
            "sound": self.is_sound,
            "seconds": self.seconds,
            "checks": [check.to_json(language) for check in self.checks],
        }


@guest
def check(
    network: Recipe | Network,
    data: Any,
    *,
    recipe: Recipe | None = None,
    lr: bool = False,
    seconds: float = SECONDS,
) -> Checkup:
    """Check a recipe on data before training, in about so many seconds.

    The loss at the start is that of chance; one batch can be learnt by heart; gradients reach every
    layer and every weight moves; examples do not influence each other; inputs are scaled; the data
    themselves; what the training will take. What would take too long is skipped, and that is said.

    network, data, recipe: as of `fit`. lr: also a range test of learning rates, as one population.

    Raises RecipeError for a recipe that does not fit the data, with all mistakes.
    """
    if not seconds > 0:
        raise RecipeError(wrong("seconds", seconds, "must be greater than 0", "try 5"))
    began = time.perf_counter()
    data = data if isinstance(data, Data) else load(data)
    chosen = recipe_for(network, recipe, data, data.size("train"))
    check_fits(chosen, data)
    start = Start(chosen, data, seconds * (0.8 if lr else 0.5))
    found: list[Checked] = []
    for row in CHECKS:
        checked = row(start)
        found += checked if isinstance(checked, list) else [checked]
    if lr:
        found.append(learning_rate(start))
    source = str(data.source.get("source", ""))
    return Checkup(found, source, round(time.perf_counter() - began, 2))
