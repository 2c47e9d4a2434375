"""Causes in the gap between what was trained on and what was held out."""

from __future__ import annotations

import math

import numpy as np

from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding
from danlu.diagnosis.rules.table import (
    MATERIAL,
    UNCERTAIN,
    Rule,
    against_memorising,
    found,
    held_out,
    is_at_chance,
    is_wide,
    more_examples,
)
from danlu.diagnosis.signs import Signs

FEW = 25  # examples of a class…
_FEW_NUMBERS = 100  # …or of a numeric target
_GULF = 0.35  # a gap that is over-fitting even where the validation loss never rose
_MANY_EPOCHS = 60
_TURNED = 1.35  # validation loss at the end by the lowest
_TURNED_OF_TEXT = 1.05  # the same of running text, whose losses are means over many tokens


def too_little_data(e: Evidence, s: Signs) -> Finding | None:
    """The training part is learnt by heart, and is a handful for each class."""
    gap = _gap(e)
    examples = e.examples
    if gap is None or not examples or not _has_few_targets(e):
        return None
    trained, reached, low = gap
    if not low > 0.05:
        return None
    return found(
        "too_little_data",
        min(1.0, trained - reached + 0.3),
        {"examples": examples, "training": trained, **held_out(e)},
        *more_examples(e),
        *against_memorising(e),
        also=["overfitting"],
    )


def _has_few_targets(e: Evidence) -> bool:
    is_of_numbers = e.schema is not None and e.schema.is_regression
    return is_wide(e) or _targets_by_class(e) <= (_FEW_NUMBERS if is_of_numbers else FEW)


def _targets_by_class(e: Evidence) -> float:
    """Return how many targets the network sees of a class, of text a token each.

    Numbers count as one class.
    """
    classes = max(1, sum(count > 0 for count in e.class_counts))
    examples = e.sizes.get("train", 0)
    targets = sum(e.class_counts) or examples
    return targets / classes * e.examples / max(1, examples)


def nothing_of_others(e: Evidence, s: Signs) -> Finding | None:
    """It answers held-out examples no better than a constant, having seen a handful of a class."""
    examples = e.examples
    if e.has_diverged or not examples or not _has_few_targets(e) or not is_at_chance(e):
        return None
    figures: dict[str, float | int | str] = {
        "examples": examples,
        "training": e.final(f"train_{e.metric}"),
        **held_out(e),
    }
    return found("too_little_data", 1.0, figures, *more_examples(e))


def overtrained(e: Evidence, s: Signs) -> Finding | None:
    """Over-fitting of a training that went on for many epochs."""
    return _overfitting(e, "overtrained") if len(e.history) >= _MANY_EPOCHS else None


def overfitting(e: Evidence, s: Signs) -> Finding | None:
    """The training part is fitted much better than examples that were held out."""
    return _overfitting(e, "overfitting")


def _overfitting(e: Evidence, cause: str) -> Finding | None:
    gap = _gap(e)
    best, end = _lowest_and_last(e)
    has_turned = end > _TURNED * best > 0
    if gap is None:
        return _gap_of_losses(e, cause, best, end)
    trained, reached, low = gap
    if e.is_running_text:
        return _gap_of_text(e, cause, best, end)
    # What is no better than chance held out, and learnt in training, was learnt by heart.
    is_even = 2 * max(e.class_counts, default=0) < 1.2 * sum(e.class_counts)
    is_lost = is_even and is_at_chance(e) and not is_at_chance(e, "train")
    is_shown = has_turned or is_lost
    if not low > (MATERIAL if is_shown else _GULF) or trained < 0:
        return None
    figures: dict[str, float | int | str] = {"training": trained, **held_out(e)}
    if has_turned:
        figures |= {"lowest": best, "last": end}
    return found(
        cause,
        min(1.0, trained - reached + 0.1),
        figures,
        *against_memorising(e),
        *more_examples(e),
        also=["too_little_data"],
    )


def _gap_of_text(e: Evidence, cause: str, best: float, end: float) -> Finding | None:
    """Compare the losses of a language model."""
    if not end > _TURNED_OF_TEXT * best > 0 or not e.final("train_loss") < 0.6 * end:
        return None
    return _risen(e, cause, best, end, least=0.3)


def _gap_of_losses(e: Evidence, cause: str, best: float, end: float) -> Finding | None:
    """Compare the losses of a loop that tells no more."""
    trained = e.final("train_loss")
    if e.recipe is not None:
        return None
    # Beside chance, losses near 0 may double and mean nothing.
    has_turned = end > _TURNED * best > 0 and trained < 0.5 * end and end >= 0.3 * e.chance
    # Held-out examples that gain nothing by what is learnt, from beginning to end.
    is_by_heart = not e.is_chance_guessed and best > 0.95 * e.chance and trained < 0.9 * e.chance
    if not has_turned and not is_by_heart:
        return None
    return _risen(e, cause, best, end, least=0.1)


def _risen(e: Evidence, cause: str, best: float, end: float, least: float) -> Finding:
    """Return the finding of a validation loss that has risen; least: its severity by itself."""
    return found(
        cause,
        min(1.0, 1 - best / end + least),
        {"running": e.final("train_loss"), "lowest": best, "last": end},
        *against_memorising(e),
        *more_examples(e),
        also=["too_little_data"],
    )


def _gap(e: Evidence) -> tuple[float, float, float] | None:
    """Return the figure on training and validation part, and the least gap that the data allow."""
    trained, reached = e.final(f"train_{e.metric}"), e.final(f"valid_{e.metric}")
    if math.isnan(trained) or math.isnan(reached):
        return None
    if e.metric == "r2":
        return trained, reached, trained - reached - 0.2
    # How it does on what it was trained on is known; only what was held out is a sample.
    high = held_out(e).get("high", reached + UNCERTAIN)
    return trained, reached, trained - high


def _lowest_and_last(e: Evidence) -> tuple[float, float]:
    curve = e.curve("valid_loss")
    if not len(curve) or np.isnan(curve).all():
        return math.nan, math.nan
    return float(np.nanmin(curve)), float(curve[-1])


RULES = (
    Rule("too_little_data", too_little_data, ("overfitting", "overtrained", "train_test_shift")),
    Rule("too_little_data", nothing_of_others, is_last_resort=True),
    Rule("overtrained", overtrained, ("overfitting",)),
    Rule("overfitting", overfitting, ()),
)
