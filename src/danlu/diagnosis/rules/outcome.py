"""Causes that show in what was reached: parts, classes, labels, simple models beside it.

Legend: K classes, n examples.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from danlu.diagnosis.error_parts import error_parts
from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding, Prescription
from danlu.diagnosis.rules.gaps import FEW
from danlu.diagnosis.rules.table import (
    HELD_BACK,
    MATERIAL,
    UNCERTAIN,
    Rule,
    found,
    held_out,
    interval,
    is_behind_pairs,
    is_behind_simple_models,
    prescribe,
)
from danlu.diagnosis.signs import Signs
from danlu.errors import some
from danlu.recipe import Recipe
from danlu.statistics import difference_interval, wilson_interval

_OTHER_WORLD = 0.9  # AUC from which hardly an example could be of the other part
_TOLD_APART = 0.6  # AUC by which parts are of different distributions; chance has 0.5


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
    # Of a class that training does not have, no other name would be right.
    is_known = np.array(e.class_counts) > 0
    if len(is_known) == len(confusion) and not is_known[confusion.sum(1) > 0].all():
        return None
    right = float(np.trace(confusion)) / n
    renamed, moved = _best_renaming(confusion)
    _, high = wilson_interval(right, n)
    low, _ = wilson_interval(renamed, n)
    # A network that has learnt nothing may be right in any classes, by luck.
    elsewhere = float(np.fmax(e.final("valid_accuracy"), e.final("train_accuracy")))
    has_learnt = elsewhere > high + MATERIAL and renamed > 0.6 * elsewhere
    if not has_learnt or not low > high + MATERIAL or moved < 2:
        return None
    return found(
        "label_mapping_mismatch",
        min(1.0, renamed - right + 0.2),
        {"accuracy": right, "renamed": renamed, "moved": moved, **interval(renamed, n)},
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
    if not has_learnt or not interval(right, n).get("high", 1.0) < 0.7 * by_chance:
        return None
    return found(
        "label_mapping_mismatch",
        1.0,
        {"below": right, "chance": by_chance, **interval(right, n)},
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
    only_in_test = _classes_only_in_test(e)
    if drop is None and not is_told and not only_in_test:
        return None
    figures: dict[str, float | int | str] = {}
    if drop is not None:
        figures |= {part: e.final(f"{part}_{e.metric}") for part in ("valid", "test")}
        figures |= _interval_of_drop(e)
    if told is not None and is_told:
        figures |= {"auc": told.auc, "low": told.low, "high": told.high}
        if told.features:
            figures["features"] = ", ".join(told.features)
    elif told is not None and told.high <= _TOLD_APART and not only_in_test:
        figures |= {"alike": told.auc, "low": told.low, "high": told.high}
    if only_in_test:
        figures["classes"] = some(only_in_test, 3)
    # Inputs that differ are no harm where the network answers as well.
    severity = min(1.0, drop + 0.2) if drop is not None else 0.5 if only_in_test else 0.3
    if told is not None and told.low > _OTHER_WORLD:
        severity = max(severity, min(1.0, 0.3 + _loss_outside(e)))
    also = ["target_leak"] if e.metric == "r2" else ["target_leak", "leak_duplicates"]
    cures = [prescribe("same_source")]
    return found("train_test_shift", severity, figures, *cures, also=also if drop else [])


def _classes_only_in_test(e: Evidence) -> list[str]:
    """Return classes of the part that was predicted last which training does not have."""
    if e.confusion is None or e.schema is None or e.schema.each_token or not sum(e.class_counts):
        return []
    is_there = e.confusion.sum(1) > 0
    counts = zip(e.schema.classes, e.class_counts, is_there, strict=True)
    return [repr(name) for name, count, there in counts if there and not count]


def _loss_outside(e: Evidence) -> float:
    """Return by how much the test part fares worse than training; 0 where that is not known."""
    loss = e.final(f"train_{e.metric}") - e.final(f"test_{e.metric}")
    return max(0.0, float(np.nan_to_num(loss)))


def _drop_on_test(e: Evidence) -> float | None:
    """Return by how much the test part fares worse than validation; None where it hardly does."""
    valid, test = e.final(f"valid_{e.metric}"), e.final(f"test_{e.metric}")
    if math.isnan(valid) or math.isnan(test):
        return None
    if e.metric == "r2":
        return valid - test if valid - test > 0.5 and valid > 0.2 else None
    low = _interval_of_drop(e).get("drop_low", valid - test - UNCERTAIN)
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
    if counts.max() <= 2 * FEW:
        return None
    shares = counts / counts.sum()
    totals, right = confusion.sum(1), np.diag(confusion)
    common = int(shares.argmax())
    is_rare = shares < 0.2 * shares.max()
    if shares.max() > 0.6:  # beside such a class all others are
        is_rare = np.arange(len(shares)) != common
    # Of what is never shown in training there is too little, and not too little beside others.
    is_rare &= (totals > 0) & (counts > 0)
    is_frequent = ~is_rare & (totals > 0)
    if not (shares[is_rare] < 0.2 * shares.max()).any() or not is_frequent.any():
        return None
    recall = float(right[is_frequent].sum() / totals[is_frequent].sum())
    missed = float(1 - right[is_rare].sum() / totals[is_rare].sum())
    low, _ = difference_interval(
        recall, int(totals[is_frequent].sum()), 1 - missed, int(totals[is_rare].sum())
    )
    if not missed > 0.15 or not low > 0.05 or not recall > 1 - missed + MATERIAL:
        return None
    # Where classes overlap the best answer misses many of the rarer one, too.
    if missed < 0.5 and not _least_recall_of(is_rare, e) > 1 - missed:
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
            **interval(1 - missed, totals[is_rare].sum()),
        },
        prescribe("class_weights", "loss.class_weights=balanced"),
        prescribe("balanced_draws", "sample.balanced=true"),
        prescribe("focal_loss", "loss=focal"),
        also=["too_little_data"],
    )


def _least_recall_of(is_among: NDArray[np.bool_], e: Evidence) -> float:
    """Return how often simple models recognise some classes at the least; NaN where not known."""
    if e.data is None or not e.data.has_features or e.data.data.schema.is_text:
        return math.nan
    y = e.data.train.y.astype(int)
    asked = is_among[y]
    if not asked.any():
        return math.nan
    right = e.data.out_of_fold[asked].argmax(1) == y[asked]
    return wilson_interval(float(right.mean()), len(right))[0]


def model_too_small(e: Evidence, s: Signs) -> Finding | None:
    """Simple models make far fewer errors than a narrow network on its own training part."""
    if e.data is None or e.recipe is None or not s.unlearnt > 0.1 or e.has_diverged:
        return None
    hidden = e.recipe.model.hidden or ()
    widths = hidden if e.network is None else e.network.hidden_widths
    if not widths or not min(widths) < math.sqrt(e.data.data.schema.outputs) + 2:
        return None
    figures = _pairs_do_better(e, s) if e.is_running_text else _models_do_better(e)
    if not figures:
        return None
    wider = [f"model.hidden={[max(32, 8 * width) for width in hidden]}"] if hidden else []
    return found(
        "model_too_small",
        s.unlearnt,
        {**figures, "narrowest": min(widths)},
        prescribe("wider", *wider),
    )


def _models_do_better(e: Evidence) -> dict[str, float]:
    """Return what simple models reach, and the network on its training part; else nothing."""
    if e.data is None or not e.data.has_features:
        return {}
    reached, reference = e.final(f"train_{e.data.data.schema.metric}"), e.data.learnable
    is_better = reference > reached + 0.05 and 1 - reference < 0.6 * (1 - reached)
    return {"training": reached, "simple": reference} if is_better else {}


def _pairs_do_better(e: Evidence, s: Signs) -> dict[str, float]:
    """Return the loss of counted pairs of tokens, and that of a network that is done learning."""
    if e.data is None or not s.still_falling <= 0.03 or not is_behind_pairs(e, "train"):
        return {}
    return {"loss": e.final("train_loss"), "counted": e.data.pairs_loss}


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
    if e.is_running_text:
        return _behind_pairs(e)
    reached, simple = e.final(f"valid_{e.data.data.schema.metric}"), e.data.learnable
    # Where the training part is fitted better than that, it is no lack of fit.
    if e.final(f"train_{e.data.data.schema.metric}") > simple:
        return None
    return found(
        "underfitting",
        min(1.0, simple - reached + 0.2),
        {"simple": simple, **held_out(e)},
        *_against_bias(e.recipe),
    )


def _behind_pairs(e: Evidence) -> Finding | None:
    """Compare a language model with counts, where it is as bad on its own training part."""
    assert e.data is not None and e.recipe is not None
    if not is_behind_pairs(e, "train"):
        return None
    reached, counted = e.final("valid_loss"), e.data.pairs_loss
    return found(
        "underfitting",
        min(1.0, reached / counted - 1 + 0.2),
        {"loss": reached, "counted": counted},
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


RULES = (
    Rule("label_mapping_mismatch", label_mapping_mismatch, ("train_test_shift", "overfitting")),
    Rule("class_imbalance", class_imbalance, ("too_little_data", "overfitting")),
    Rule("train_test_shift", train_test_shift, ()),
    Rule("model_too_small", model_too_small, HELD_BACK),
    Rule("underfitting", underfitting, is_last_resort=True),
    Rule("underfitting", behind_simple_models, is_last_resort=True),
)
