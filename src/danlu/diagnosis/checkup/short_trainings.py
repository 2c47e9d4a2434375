"""Short trainings that say much: one batch learnt by heart, a range of rates.

Legend: R rates.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.data import Data
from danlu.diagnosis.checkup.start import Start
from danlu.errors import Interrupted
from danlu.optim.optimizers import OPTIMIZERS
from danlu.recipe import Recipe
from danlu.train.dispatch.train import train

_BY_HEART = 200  # steps on one batch
_FEWEST_BY_HEART = 40
_STEPS_OF_EPOCH = 20  # for which the batch comes again, as an epoch of one step costs more than it
_LEARNT_BY = (1.0, 0.1, 10.0)  # factors on the rate, so that it alone decides nothing
_BATCHES = (32, 8, 2)  # the largest for which there is time
_LEFT_OUT = ("penalty", "augment", "sample", "early_stopping", "clip")
_RATES = [10 ** (k / 2) for k in range(-13, 4)]  # 3·10⁻⁷ … 30
_STEPS = 60  # of a range test
_FEWEST_STEPS = 15


@dataclass(frozen=True)
class LrRange:
    """Rates [R] and the loss after some steps of each, by that before (or of chance, if lower).

    low, high: the ends of the range that learns: at least half as far as the best rate. best: the
    rate with the lowest loss; suggested: a third of it, as longer trainings bear less.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    steps: int
    low: float
    high: float
    best: float

    @property
    def suggested(self) -> float:
        """A rate to begin with, to one digit."""
        return float(f"{self.best / 3:.1g}")

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {**vars(self), "rates": list(self.rates), "losses": list(self.losses),
                "suggested": self.suggested}  # fmt: skip


def plain(recipe: Recipe, batch_size: int) -> Recipe:
    """Return a recipe without what makes its training part harder, or ends a training."""
    changes: dict[str, Any] = {section: {} for section in _LEFT_OUT}
    changes |= {"average": "none", "schedule": "constant", "accumulate": 1}
    changes |= {"loss.class_weights": "none", "batch_size": batch_size}
    for path, off in (
        ("loss.label_smoothing", 0.0),
        ("optimizer.weight_decay", 0.0),
        ("model.dropout", 0.0),
    ):
        section, name = path.split(".")
        if getattr(getattr(recipe, section), name) is not None:
            changes[path] = off
    return recipe.with_(**changes)


def loss_of_one_batch(start: Start) -> tuple[float, int] | None:
    """Return the lowest loss that some steps on a single batch lead to, and the steps.

    None where that would take too long. Of the recipe's rate, those 10 times as small and as large,
    and the usual one, the best counts: whether the network can learn is the question, not whether
    it does.
    """
    most = min(start.recipe.batch_size, start.data.size("train"))
    for batch in _BATCHES:
        size = min(batch, most)
        data = start.few(size, times=_STEPS_OF_EPOCH)
        base = plain(start.recipe, size)
        rates = [factor * (base.optimizer.lr or 0.0) for factor in _LEARNT_BY]
        recipes = _with_rates(base, [*rates, *_usual_rate(base)])
        steps = _affordable(start, len(recipes), size, _BY_HEART)
        if steps >= _FEWEST_BY_HEART:
            epochs = steps // _STEPS_OF_EPOCH
            losses = _final_losses([r.with_(epochs=epochs) for r in recipes], data)
            return min(losses), epochs * _STEPS_OF_EPOCH
    return None


def lr_range(start: Start) -> LrRange | None:
    """Return which rates learn, from one population; None where there is no rate or no time."""
    if start.recipe.optimizer.lr is None:
        return None
    size = min(start.recipe.batch_size, start.data.size("train"))
    data = start.few(size * _STEPS)
    per_epoch = math.ceil(data.size("train") / size)
    base = plain(start.recipe, size)
    recipes = _with_rates(base, _RATES)
    # In whole epochs: of little data several, of much a part of one.
    steps = _affordable(start, len(recipes), size, _STEPS)
    if steps < _FEWEST_STEPS:
        return None
    if steps < per_epoch:
        data, per_epoch = start.few(size * steps), steps
    epochs = max(1, round(steps / per_epoch))
    losses = _final_losses([r.with_(epochs=epochs) for r in recipes], data)
    # A start far above chance is undone by any rate: to learn is to know more than nothing.
    before = min(start.loss, start.chance)
    relative = [loss / before for loss in losses]
    return _range_of(_RATES, relative, epochs * per_epoch)


def _range_of(rates: Sequence[float], losses: Sequence[float], steps: int) -> LrRange | None:
    """Return the range around the best rate that learns at least half as far."""
    best = min(range(len(rates)), key=lambda i: losses[i])
    fall = 1 - losses[best]
    if not fall > 0.02:
        return LrRange(rates, losses, steps, math.nan, math.nan, math.nan)
    low = high = best
    while low > 0 and 1 - losses[low - 1] >= fall / 2:
        low -= 1
    while high < len(rates) - 1 and 1 - losses[high + 1] >= fall / 2:
        high += 1
    return LrRange(rates, losses, steps, rates[low], rates[high], rates[best])


def _usual_rate(recipe: Recipe) -> list[float]:
    """Return the default rate of the recipe's optimiser, if it has one."""
    row = OPTIMIZERS.get(recipe.optimizer.name)
    return [] if row is None or "lr" not in row.defaults else [row.defaults["lr"]]


def _with_rates(base: Recipe, rates: Sequence[float]) -> list[Recipe]:
    if base.optimizer.lr is None:
        return [base]
    return [base.with_([f"optimizer.lr={rate!r}"]) for rate in rates]


def _affordable(start: Start, networks: int, size: int, most: int) -> int:
    """Return how many steps, up to `most`, so many networks can take in the time there is."""
    of_all = start.step_cost.of_batch(size) * networks
    return min(most, int(start.seconds / max(of_all, 1e-9)))


def _final_losses(recipes: Sequence[Recipe], data: Data) -> list[float]:
    """Return the training loss of each at its end; infinite where it diverged."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study"
        try:
            study = train(recipes, data, out=path, device="cpu", parts=("train",))
        except Interrupted as e:  # there is nothing to go on with
            raise KeyboardInterrupt from e
        losses = [result.get("train_loss", math.inf) for result in study.results]
    return [loss if math.isfinite(loss) else math.inf for loss in losses]
