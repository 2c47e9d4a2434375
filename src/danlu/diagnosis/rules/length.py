"""Causes in when a training ends, and when its rate does; what has learnt nothing by then."""

from __future__ import annotations

import math

import numpy as np

from danlu.diagnosis.data_evidence import Numbers
from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding, Prescription
from danlu.diagnosis.rules.table import (
    UNCERTAIN,
    Rule,
    found,
    is_at_chance,
    is_behind_simple_models,
    longer,
    prescribe,
    rates,
)
from danlu.diagnosis.signs import Signs

_UNLEARNT = 0.15  # share from which a slow training is worth a word
_HALFWAY = 0.25  # from which it is worth going on, whatever else
_SETTLED = 0.03  # a fall of the loss in an epoch
FEW_EPOCHS = 5  # which nobody holds against a network that is behind simple models
_FEW_STEPS = 200  # in which hardly any network leaves chance by a small rate


def _longer_and_faster(e: Evidence, s: Signs) -> list[Prescription]:
    """Return both at once where nothing is learnt yet, and neither may show alone."""
    if e.recipe is None or e.recipe.optimizer.lr is None or not s.unlearnt > 0.9:
        return []
    edits = (f"epochs={10 * e.recipe.epochs}", f"optimizer.lr={10 * e.recipe.optimizer.lr:.3g}")
    return [prescribe("longer_and_faster", *edits)]


def _epochs_above(rate: float, curve: Numbers) -> int:
    """Return after how many epochs the rate stays below a figure."""
    above = np.flatnonzero(curve > rate)
    return int(above[-1]) + 1 if len(above) else 0


def schedule_decays_too_soon(e: Evidence, s: Signs) -> Finding | None:
    """The rate is next to nothing before half of the epochs are over, or small after a third."""
    curve = e.curve("lr")
    if len(curve) < 4 or not np.nanmax(curve) > 0:
        return None
    if not s.unlearnt > 0.1 and not is_behind_simple_models(e):
        return None
    # A loop's schedule may go down within the first epoch.
    peak = float(np.nanmax([*curve, e.settings.lr or 0.0]))
    nothing, small = (_epochs_above(share * peak, curve) for share in (0.02, 0.1))
    if nothing <= len(curve) / 2:
        share, last_useful = 0.02, max(1, nothing)
    elif small <= len(curve) / 3 and is_behind_simple_models(e):
        share, last_useful = 0.1, max(1, small)
    else:
        return None
    if _had_settled(e, _epochs_above(0.5 * peak, curve)):
        return None
    return found(
        "schedule_decays_too_soon",
        max(s.unlearnt, 0.3),
        {"share": share, "epoch": last_useful, "epochs": len(curve), "unlearnt": s.unlearnt},
        prescribe("gentler_schedule", "schedule=cosine"),
        prescribe("no_schedule", "schedule=constant"),
    )


def _had_settled(e: Evidence, epoch: int) -> bool:
    """Whether the loss in training hardly fell any more after so many epochs, at the full rate."""
    curve = e.curve("train_loss")
    if epoch < 2 or not len(curve) >= epoch:
        return False
    return bool(curve[epoch - 1] > (1 - _SETTLED) * curve[epoch - 2])


def stopped_too_early(e: Evidence, s: Signs) -> Finding | None:
    """Early stopping ended it while the validation loss was still falling."""
    recipe, curve = e.recipe, e.curve("valid_loss")
    if recipe is None or not recipe.early_stopping.patience or len(curve) >= recipe.epochs:
        return None
    if len(curve) < 2 or e.has_diverged:
        return None
    if np.nanargmin(curve) != len(curve) - 1 and not _gave_up_at_once(e, s):
        return None
    return found(
        "stopped_too_early",
        max(0.3, float(np.nan_to_num(s.unlearnt))),
        {"epochs": len(curve), "of": recipe.epochs, **_last_fall(curve)},
        prescribe("more_patience", "early_stopping.patience=10", "early_stopping.min_delta=0"),
    )


def _last_fall(curve: Numbers) -> dict[str, float]:
    fall = float(1 - curve[-1] / curve[-2])
    return {"fall": fall} if fall > 0 else {"rise": -fall}


def _gave_up_at_once(e: Evidence, s: Signs) -> bool:
    """Whether one worse epoch ended it in its first quarter, with much left to learn."""
    assert e.recipe is not None
    running = e.curve("train_loss")
    is_early = e.recipe.early_stopping.patience == 1 and 4 * len(running) < e.recipe.epochs
    return is_early and s.unlearnt > _UNLEARNT and bool(running[-1] < 0.95 * running[-2])


def too_few_epochs(e: Evidence, s: Signs) -> Finding | None:
    """It ended in the middle of learning."""
    if e.has_diverged or (e.recipe is None and not e.history):
        return None
    if not s.unlearnt > _HALFWAY and not is_behind_simple_models(e):
        return None
    epochs = len(e.history)
    falls = s.still_falling if epochs > 1 else _fall_within(s)
    has_hardly_begun = 0 < epochs <= FEW_EPOCHS and is_behind_simple_models(e)
    if not (falls > 0.03 or has_hardly_begun) or was_stopped(e):
        return None
    return found(
        "too_few_epochs",
        max(0.2, s.unlearnt),
        {"epochs": epochs, "unlearnt": s.unlearnt, **({"fall": falls} if falls > 0 else {})},
        *longer(e, 3),
        *rates(e, 3, 10),
        *longer(e, 10),
        *_longer_and_faster(e, s),
        also=["lr_too_low"],
    )


def was_stopped(e: Evidence) -> bool:
    """Whether early stopping ended it."""
    if e.recipe is None or not e.recipe.early_stopping.patience:
        return False
    return len(e.history) < e.recipe.epochs


def hardly_begun(e: Evidence, s: Signs) -> Finding | None:
    """So few steps that a network at chance is no wonder."""
    steps = e.final("steps")
    if e.has_diverged or not 0 < steps < _FEW_STEPS or not s.unlearnt > 0.9:
        return None
    return found(
        "too_few_epochs",
        s.unlearnt,
        {"epochs": len(e.history), "steps": int(steps), "unlearnt": s.unlearnt},
        *longer(e, 3, 10),
        *rates(e, 3, 10),
        *_longer_and_faster(e, s),
        also=["lr_too_low"],
    )


def nothing_learnt(e: Evidence, s: Signs) -> Finding | None:
    """The network does no better than a constant answer, and no other rule says why."""
    # In somebody's own loop the loss alone tells.
    is_nothing = s.unlearnt > 0.9
    if e.recipe is not None:
        is_nothing = s.unlearnt > 0.5 and is_at_chance(e) and is_at_chance(e, "train")
    if e.is_chance_guessed:
        is_nothing = s.unlearnt > 0.97
    if e.has_diverged or not is_nothing or _is_told_of_more(e):
        return None
    return found(
        "nothing_learnt",
        s.unlearnt,
        {"unlearnt": s.unlearnt},
        *longer(e, 3),
        *rates(e, 10),
        *rates(e, 0.1),
        prescribe("another_network"),
        also=["nothing_to_learn"],
    )


def _is_told_of_more(e: Evidence) -> bool:
    """Whether a loop tells an accuracy that no constant answer has."""
    told = float(np.fmax(e.final("valid_accuracy"), e.final("train_accuracy")))
    is_told = e.recipe is None and bool(e.class_counts) and not math.isnan(told)
    return is_told and told > 1 / len(e.class_counts) + UNCERTAIN


def _fall_within(s: Signs) -> float:
    """Return by what share the loss fell between the last two measured steps."""
    if len(s.losses) < 2:
        return math.nan
    return float(1 - s.losses[-1] / s.losses[-2])


RULES = (
    Rule("schedule_decays_too_soon", schedule_decays_too_soon, ("lr_too_low", "too_few_epochs")),
    Rule("stopped_too_early", stopped_too_early, ("too_few_epochs",)),
    Rule("too_few_epochs", too_few_epochs, ()),
    Rule("too_few_epochs", hardly_begun, is_last_resort=True),
    Rule("nothing_learnt", nothing_learnt, is_last_resort=True),
)
