"""Causes that show in what was reached: gaps between parts, classes, labels.

Legend: K classes, n examples.
"""

from __future__ import annotations

import math

import numpy as np

from danlu.diagnosis.error_parts import error_parts
from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding, Prescription
from danlu.diagnosis.rules.table import (
    Rule,
    against_memorising,
    found,
    is_at_chance,
    is_behind_simple_models,
    more_examples,
    prescribe,
)
from danlu.diagnosis.signs import Signs
from danlu.recipe import Recipe
from danlu.statistics import difference_interval, wilson_interval

_MATERIAL = 0.1  # a gap of accuracies that matters
_OTHER_WORLD = 0.9  # AUC from which hardly an example could be of the other part
_TOLD_APART = 0.6  # AUC by which parts are of different distributions; chance has 0.5
_FEW = 25  # examples of a class…
_FEW_NUMBERS = 100  # …or of a numeric target
_GULF = 0.35  # a gap that is over-fitting even where the validation loss never rose
_UNCERTAIN = 0.1  # of a gap, where it is not known of how many examples it is
_MANY_EPOCHS = 60
_TURNED = 1.35  # validation loss at the end by the lowest


def label_mapping_mismatch(e: Evidence, s: Signs) -> Finding | None:
    """A part's classes are numbered in another way: predictions are right under a permutation.

    Or, of a part whose predictions are not kept, they are wrong far more often than by chance.
    """
    return _renamed(e) or _below_chance(e)


def _renamed(e: Evidence) -> Finding | None:
    """Compare the last part that was read with itself under the best renaming of classes."""
    confusion = e.confusion
    if confusion is None or not confusion.sum():
        return None
    n = int(confusion.sum())
    # Of one example a class some renaming is always right.
    if n < 5 * len(confusion):
        return None
    right = float(np.trace(confusion)) / n
    renamed, moved = _best_renaming(confusion)
    _, high = wilson_interval(right, n)
    low, _ = wilson_interval(renamed, n)
    # A network that has learnt nothing may be right in any classes, by luck.
    elsewhere = float(np.fmax(e.final("valid_accuracy"), e.final("train_accuracy")))
    has_learnt = elsewhere > high + _MATERIAL and renamed > 0.6 * elsewhere
    if not has_learnt or not low > high + _MATERIAL or moved < 2:
        return None
    return found(
        "label_mapping_mismatch",
        min(1.0, renamed - right + 0.2),
        {"accuracy": right, "renamed": renamed, "moved": moved, **_interval(renamed, n)},
        prescribe("same_numbers"),
    )


def _below_chance(e: Evidence) -> Finding | None:
    """Compare the validation part with labels that were drawn by their shares."""
    counts = np.array(e.class_counts, dtype=float)
    if not counts.sum() or (counts > 0).sum() < 2:
        return None
    by_chance = float(((counts / counts.sum()) ** 2).sum())
    right, n = e.final("valid_accuracy"), e.final("valid_n")
    has_learnt = e.final("train_accuracy") > (1 + by_chance) / 2
    if not has_learnt or not _interval(right, n).get("high", 1.0) < 0.7 * by_chance:
        return None
    return found(
        "label_mapping_mismatch",
        1.0,
        {"below": right, "chance": by_chance, **_interval(right, n)},
        prescribe("same_numbers"),
    )


def _best_renaming(confusion: np.ndarray) -> tuple[float, int]:
    """Return the accuracy under the best renaming of classes, and how many it moves."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-confusion)
    reached = float(confusion[rows, columns].sum()) / float(confusion.sum())
    return reached, int((rows != columns).sum())


def train_test_shift(e: Evidence, s: Signs) -> Finding | None:
    """The test part is much harder, or its inputs can be told from those of training."""
    drop = _drop_on_test(e)
    told = None if e.data is None else e.data.shift
    is_told = told is not None and told.low > _TOLD_APART
    if drop is None and not is_told:
        return None
    metric = "accuracy" if e.schema is None else e.schema.metric
    figures: dict[str, float | int | str] = {}
    if drop is not None:
        figures |= {part: e.final(f"{part}_{metric}") for part in ("valid", "test")}
        figures |= _interval_of_drop(e)
    if told is not None and is_told:
        figures |= {"auc": told.auc, "low": told.low, "high": told.high}
        if told.features:
            figures["features"] = ", ".join(told.features)
    elif told is not None and told.high <= _TOLD_APART:
        figures |= {"alike": told.auc, "low": told.low, "high": told.high}
    # Inputs that differ are no harm where the network answers as well.
    severity = 0.3 if drop is None else min(1.0, drop + 0.2)
    if told is not None and told.low > _OTHER_WORLD:
        severity = max(severity, min(1.0, 0.3 + _loss_outside(e)))
    also = ["target_leak"] if metric == "r2" else ["target_leak", "leak_duplicates"]
    cures = [prescribe("same_source")]
    return found("train_test_shift", severity, figures, *cures, also=also if drop else [])


def _loss_outside(e: Evidence) -> float:
    """Return by how much the test part fares worse than training; 0 where that is not known."""
    metric = "accuracy" if e.schema is None else e.schema.metric
    loss = e.final(f"train_{metric}") - e.final(f"test_{metric}")
    return max(0.0, float(np.nan_to_num(loss)))


def _drop_on_test(e: Evidence) -> float | None:
    """Return by how much the test part fares worse than validation; None where it hardly does."""
    metric = "accuracy" if e.schema is None else e.schema.metric
    valid, test = e.final(f"valid_{metric}"), e.final(f"test_{metric}")
    if math.isnan(valid) or math.isnan(test):
        return None
    if metric == "r2":
        return valid - test if valid - test > 0.5 and valid > 0.2 else None
    low = _interval_of_drop(e).get("drop_low", valid - test - _UNCERTAIN)
    return valid - test if low > 0.05 else None


def _interval_of_drop(e: Evidence) -> dict[str, float]:
    """Return the interval of how much the test part fares worse; nothing where it is not known."""
    valid, test = e.final("valid_accuracy"), e.final("test_accuracy")
    n, m = e.final("valid_n"), e.final("test_n")
    is_of_shares = e.schema is None or e.schema.metric == "accuracy"
    if math.isnan(valid + test + n + m) or not is_of_shares:
        return {}
    low, high = difference_interval(valid, int(n), test, int(m))
    return {"drop_low": low, "drop_high": high}


def class_imbalance(e: Evidence, s: Signs) -> Finding | None:
    """Rare classes are recognised much less often than the common one."""
    counts = np.array(e.class_counts, dtype=float)
    confusion = e.confusion
    if confusion is None or len(counts) < 2 or not counts.sum() or (counts > 0).sum() < 2:
        return None
    # Among a handful of each some are fewer by chance.
    if counts.max() <= 2 * _FEW:
        return None
    shares = counts / counts.sum()
    totals, right = confusion.sum(1), np.diag(confusion)
    common = int(shares.argmax())
    is_rare = shares < 0.2 * shares.max()
    if shares.max() > 0.6:  # beside such a class all others are
        is_rare = np.arange(len(shares)) != common
    is_rare &= totals > 0
    is_frequent = ~is_rare & (totals > 0)
    if not (shares[is_rare] < 0.2 * shares.max()).any() or not is_frequent.any():
        return None
    recall = float(right[is_frequent].sum() / totals[is_frequent].sum())
    missed = float(1 - right[is_rare].sum() / totals[is_rare].sum())
    low, _ = difference_interval(
        recall, int(totals[is_frequent].sum()), 1 - missed, int(totals[is_rare].sum())
    )
    # Where classes overlap the best answer misses many of the rarer one, too.
    if not missed > 0.5 or not low > 0.05 or not recall > 1 - missed + _MATERIAL:
        return None
    assert e.schema is not None
    return found(
        "class_imbalance",
        min(1.0, missed + 0.2),
        {
            "common": e.schema.classes[common],
            "share": float(shares[common]),
            "recall": recall,
            "recall_of_others": 1 - missed,
            **_interval(1 - missed, totals[is_rare].sum()),
        },
        prescribe("class_weights", "loss.class_weights=balanced"),
        prescribe("balanced_draws", "sample.balanced=true"),
        prescribe("focal_loss", "loss=focal"),
        also=["too_little_data"],
    )


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
        {"examples": examples, "training": trained, **_held_out(e)},
        *more_examples(e),
        *against_memorising(e),
        also=["overfitting"],
    )


def _has_few_targets(e: Evidence) -> bool:
    is_of_numbers = e.schema is not None and e.schema.is_regression
    return _targets_by_class(e) <= (_FEW_NUMBERS if is_of_numbers else _FEW)


def _targets_by_class(e: Evidence) -> float:
    """Return how many targets the network sees of a class, of text a token each.

    Numbers count as one class.
    """
    classes = max(1, sum(count > 0 for count in e.class_counts))
    examples = e.sizes.get("train", 0)
    targets = sum(e.class_counts) or examples
    return targets / classes * e.examples / max(1, examples)


def underfitting(e: Evidence, s: Signs) -> Finding | None:
    """The training part itself is not fitted as well as somebody knows that it can be."""
    parts = error_parts(e)
    if parts is None or e.target_error is None or e.recipe is None:
        return None
    if not parts.bias.is_high(parts.validation):
        return None
    return found(
        "underfitting",
        min(1.0, parts.bias.value + 0.2),
        {
            "unexplained" if parts.is_of_numbers else "training": parts.training,
            "reference": parts.reference,
            "bias": parts.bias.value,
        },
        *_against_bias(e.recipe),
    )


def behind_simple_models(e: Evidence, s: Signs) -> Finding | None:
    """Simple models answer held-out examples better, and no other rule says why."""
    if e.recipe is None or e.data is None or e.has_diverged or not is_behind_simple_models(e):
        return None
    reached, simple = e.final(f"valid_{e.data.data.schema.metric}"), e.data.learnable
    # Where the training part is fitted better than that, it is no lack of fit.
    if e.final(f"train_{e.data.data.schema.metric}") > simple:
        return None
    return found(
        "underfitting",
        min(1.0, simple - reached + 0.2),
        {"simple": simple, **_held_out(e)},
        *_against_bias(e.recipe),
    )


def _against_bias(recipe: Recipe) -> list[Prescription]:
    """Return larger networks, and a longer training."""
    hidden = recipe.model.hidden
    cures = []
    if hidden:
        cures = [prescribe("wider", f"model.hidden={[2 * width for width in hidden]}")]
        cures.append(prescribe("deeper", f"model.hidden={[*hidden, hidden[-1]]}"))
    cures.append(prescribe("longer", f"epochs={3 * recipe.epochs}"))
    if recipe.optimizer.lr is not None:
        cures.append(prescribe("higher_rate", f"optimizer.lr={3 * recipe.optimizer.lr:.3g}"))
        cures.append(prescribe("lower_rate", f"optimizer.lr={recipe.optimizer.lr / 3:.3g}"))
    return [*cures, prescribe("another_network")]


def nothing_of_others(e: Evidence, s: Signs) -> Finding | None:
    """It answers held-out examples no better than a constant, having seen a handful of a class."""
    examples = e.examples
    if e.has_diverged or not examples or not _has_few_targets(e) or not is_at_chance(e):
        return None
    metric = "accuracy" if e.schema is None else e.schema.metric
    figures: dict[str, float | int | str] = {
        "examples": examples,
        "training": e.final(f"train_{metric}"),
        **_held_out(e),
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
        return _gap_of_losses(e, cause, best, end) if has_turned else None
    trained, reached, low = gap
    if not low > (_MATERIAL if has_turned else _GULF) or trained < 0:
        return None
    figures: dict[str, float | int | str] = {"training": trained, **_held_out(e)}
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


def _gap_of_losses(e: Evidence, cause: str, best: float, end: float) -> Finding | None:
    """Compare the losses of a loop that tells no more."""
    trained = e.final("train_loss")
    # Beside chance, losses near 0 may double and mean nothing.
    if e.recipe is not None or not trained < 0.5 * end or end < 0.3 * e.chance:
        return None
    return found(
        cause,
        min(1.0, 1 - best / end + 0.1),
        {"running": trained, "lowest": best, "last": end},
        *against_memorising(e),
        *more_examples(e),
        also=["too_little_data"],
    )


def _gap(e: Evidence) -> tuple[float, float, float] | None:
    """Return the figure on training and validation part, and the least gap that the data allow."""
    metric = "accuracy" if e.schema is None else e.schema.metric
    trained, reached = e.final(f"train_{metric}"), e.final(f"valid_{metric}")
    if math.isnan(trained) or math.isnan(reached):
        return None
    if metric == "r2":
        return trained, reached, trained - reached - 0.2
    # How it does on what it was trained on is known; only what was held out is a sample.
    high = _held_out(e).get("high", reached + _UNCERTAIN)
    return trained, reached, trained - high


def _held_out(e: Evidence) -> dict[str, float]:
    """Return the figure on the validation part, of an accuracy with its interval."""
    metric = "accuracy" if e.schema is None else e.schema.metric
    reached = e.final(f"valid_{metric}")
    is_share = metric == "accuracy"
    return {"held_out": reached, **(_interval(reached, e.final("valid_n")) if is_share else {})}


def _interval(share: float, n: float) -> dict[str, float]:
    """Return the interval of a share of n examples; nothing where n is not known."""
    if math.isnan(share) or not n > 0:
        return {}
    low, high = wilson_interval(share, int(n))
    return {"low": low, "high": high}


def _lowest_and_last(e: Evidence) -> tuple[float, float]:
    curve = e.curve("valid_loss")
    if not len(curve) or np.isnan(curve).all():
        return math.nan, math.nan
    return float(np.nanmin(curve)), float(curve[-1])


RULES = (
    Rule("label_mapping_mismatch", label_mapping_mismatch, ("train_test_shift", "overfitting")),
    Rule("class_imbalance", class_imbalance, ("too_little_data", "overfitting")),
    Rule("too_little_data", too_little_data, ("overfitting", "overtrained", "train_test_shift")),
    Rule("train_test_shift", train_test_shift, ()),
    Rule("underfitting", underfitting, is_last_resort=True),
    Rule("underfitting", behind_simple_models, is_last_resort=True),
    Rule("too_little_data", nothing_of_others, is_last_resort=True),
    Rule("overtrained", overtrained, ("overfitting",)),
    Rule("overfitting", overfitting, ()),
)
