"""The table of rules: a cause, how it is recognised, and what it explains.

A rule is a pure function of the evidence that gives its finding, or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Figure, Finding, Prescription, edits
from danlu.diagnosis.signs import Signs
from danlu.statistics import wilson_interval

_BEHIND = 0.05  # of accuracy, or of R²
_BEHIND_PAIRS = 1.02  # of a loss
MATERIAL = 0.1  # a gap of accuracies that matters
_FEW_OF_MANY_COLUMNS = 500  # examples
UNCERTAIN = 0.1  # of a gap, where it is not known of how many examples it is
# What a network looks like that something keeps from learning.
HELD_BACK = ("lr_too_low", "lr_too_high", "too_few_epochs", "dead_units", "batch_too_large")
Recognise = Callable[[Evidence, Signs], Finding | None]


@dataclass(frozen=True)
class Rule:
    """A row.

    explains: causes that are no more than its symptoms where both are found. is_last_resort:
    whether it says something only where no other rule does.
    """

    cause: str
    recognise: Recognise
    explains: tuple[str, ...] = ()
    is_last_resort: bool = False


def found(
    cause: str,
    severity: float,
    figures: dict[str, float | int | str],
    *prescriptions: Prescription,
    also: Sequence[str] = (),
) -> Finding:
    """Return a finding with its figures rounded to what they are worth."""
    rounded: dict[str, Figure] = {}
    for name, value in figures.items():
        rounded[name] = float(f"{value:.4g}") if isinstance(value, float) else value
    return Finding(cause, min(1.0, max(0.01, severity)), rounded, prescriptions, tuple(also))


def has_field(e: Evidence, name: str) -> bool:
    """Whether the network of a training has a field, such as dropout."""
    return e.recipe is not None and getattr(e.recipe.model, name) is not None


def is_at_chance(e: Evidence, part: str = "valid") -> bool:
    """Whether what was reached on a part is not shown to be better than a constant answer."""
    reached = e.final(f"{part}_{e.metric}")
    if e.metric == "r2":
        return reached < 0.05
    counts = np.array(e.class_counts, dtype=float)
    if math.isnan(reached) or not counts.sum():
        return False
    low = interval(reached, e.final(f"{part}_n")).get("low", reached - UNCERTAIN)
    return bool(low <= counts.max() / counts.sum())


def is_wide(e: Evidence) -> bool:
    """Whether a table has more columns than examples to learn from, and these are few."""
    is_table = e.schema is not None and not e.schema.is_text and len(e.schema.input_shape) == 1
    if not is_table or e.schema is None:
        return False
    return bool(e.examples < min(e.schema.input_shape[0], _FEW_OF_MANY_COLUMNS))


def is_behind_simple_models(e: Evidence) -> bool:
    """Whether neighbours or kernel models are shown to do better on held-out examples.

    Of running text, counted pairs of tokens. Of other texts models count tokens only, and say
    nothing.
    """
    if e.data is None:
        return False
    if e.data.data.schema.is_text:
        return is_behind_pairs(e, "valid")
    metric = e.data.data.schema.metric
    reached, n = e.final(f"valid_{metric}"), e.data.data.size("valid")
    if math.isnan(reached) or not n:
        return False
    if metric == "accuracy":
        _, high = wilson_interval(reached, n)
    else:
        # The mean of n squared errors is known to a share of √(2/n) of it.
        high = reached + 2 * (1 - reached) * math.sqrt(2 / n)
    return bool(e.data.learnable > high + _BEHIND)


def is_behind_pairs(e: Evidence, part: str) -> bool:
    """Whether counted pairs of tokens do better on held-out text than the network on a part."""
    if e.data is None or e.recipe is None or e.recipe.loss.name not in ("auto", "cross-entropy"):
        return False
    return e.final(f"{part}_loss") > _BEHIND_PAIRS * e.data.pairs_loss


def against_memorising(e: Evidence) -> list[Prescription]:
    """Return what keeps a network from learning examples by heart, the gentlest first."""
    cures = [prescribe("early_stopping", "early_stopping.patience=5")]
    if has_field(e, "dropout"):
        cures.append(prescribe("some_dropout", "model.dropout=0.3"))
    if e.schema is not None and not e.schema.is_text:
        cures.append(prescribe("mix_examples", "augment.mixup=0.2"))
    if e.schema is not None and e.schema.is_image:
        cures.append(prescribe("move_pictures", "augment.shift=1", "augment.rotate=8"))
    cures.append(prescribe("more_penalty", "penalty.l2=1"))
    cures.append(prescribe("more_penalty", "penalty.l2=10"))
    cures.append(prescribe("several_networks"))
    return cures


def more_examples(e: Evidence) -> list[Prescription]:
    """Return what brings more examples: those that a sample or a limit leaves out, if any."""
    cures = []
    if e.recipe is not None and e.recipe.sample.share < 1:
        cures.append(prescribe("whole_sample", "sample.share=1"))
    limit = None if e.data is None else e.data.data.source.get("limit")
    if isinstance(limit, int) and limit <= e.sizes.get("train", 0):
        cures.append(prescribe("higher_limit", f"data.limit={4 * limit}"))
    return [*cures, prescribe("more_data")]


def prescribe(reason: str, *texts: str) -> Prescription:
    """Return a prescription of edits such as `optimizer.lr=0.01`; of none, words alone."""
    return Prescription(reason, edits(*texts))


def rates(e: Evidence, *factors: float) -> list[Prescription]:
    """Return learning rates to try."""
    lr = e.settings.lr
    if lr is None:
        return [prescribe("other_rate")]
    reason = "lower_rate" if factors[0] < 1 else "higher_rate"
    return [prescribe(reason, f"optimizer.lr={lr * factor:.3g}") for factor in factors]


def longer(e: Evidence, *factors: int) -> list[Prescription]:
    """Return trainings of so many times the epochs."""
    if e.recipe is None:
        return [prescribe("longer")]
    epochs = e.recipe.epochs
    return [prescribe("longer", f"epochs={factor * epochs}") for factor in factors]


def held_out(e: Evidence) -> dict[str, float]:
    """Return the figure on the validation part, of an accuracy with its interval."""
    reached = e.final(f"valid_{e.metric}")
    is_share = e.metric == "accuracy"
    return {"held_out": reached, **(interval(reached, e.final("valid_n")) if is_share else {})}


def interval(share: float, n: float) -> dict[str, float]:
    """Return the interval of a share of n examples; nothing where n is not known."""
    if math.isnan(share) or not n > 0:
        return {}
    low, high = wilson_interval(share, int(n))
    return {"low": low, "high": high}
