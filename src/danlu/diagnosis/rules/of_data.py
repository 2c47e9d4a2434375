"""Causes in the data themselves: labels, scales, leaks, copies, what there is to learn."""

from __future__ import annotations

import math

import numpy as np

from danlu.diagnosis.data_evidence import DataEvidence, Numbers
from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding, Prescription
from danlu.diagnosis.leaks import ALL
from danlu.diagnosis.rules.table import (
    HELD_BACK,
    Rule,
    against_memorising,
    found,
    is_at_chance,
    is_wide,
    prescribe,
)
from danlu.diagnosis.signs import Signs
from danlu.statistics import wilson_interval

_MANY_CLASSES = 8  # from which their order can be seen in what is taken for what
_FEW_OF_A_VALUE = 5  # examples, of which no class is learnt
_TOLD = 0.4  # correlation from which numbers are told by the inputs
_ORDERED = 0.3  # 1 − R² of a linear model, below which whole numbers are no classes
_ALWAYS = 0.98  # share of targets from which they are constant
_SKILL_OF_PICTURES = 0.35  # of models, from which wrong labels of pictures show
_ANY_CLASS = 0.4  # rank of contradicting labels: about 0.5 where they may be any class


def _rows(e: Evidence) -> DataEvidence | None:
    """Return the data where examples have one target each."""
    return e.data if e.data is not None and e.data.has_features else None


def constant_target(e: Evidence, s: Signs) -> Finding | None:
    """All training targets are the same, or nearly all."""
    only = _only_class(e)
    answer, share = (only, 1.0) if only is not None else _only_number(e)
    if answer is None:
        return None
    cure = prescribe("other_target")
    return found("constant_target", 1.0, {"answer": answer, "share": share}, cure)


def _only_class(e: Evidence) -> str | None:
    """Return the class of every training example, None where there are several."""
    if e.schema is None or e.schema.each_token or sum(n > 0 for n in e.class_counts) != 1:
        return None
    counts = list(e.class_counts)
    return e.schema.classes[counts.index(max(counts))]


def _only_number(e: Evidence) -> tuple[str | None, float]:
    """Return the number that nearly every training target is, and how many; None where they differ.

    Of those that differ the inputs must tell nothing, to the network least of all.
    """
    d = _rows(e)
    if d is None or not d.data.schema.is_regression:
        return None, 0.0
    values, times = np.unique(d.train.y, return_counts=True)
    share = float(times.max() / times.sum())
    is_told = share < 1 and not (is_at_chance(e) and _nothing_is_told(e, d))
    if share < _ALWAYS or is_told:
        return None, share
    return f"{values[times.argmax()]:g}", share


def _nothing_is_told(e: Evidence, d: DataEvidence) -> bool:
    """Whether nothing but the network's own memory relates inputs to targets."""
    if d.data.schema.is_text:
        # Phrases are not all that a text says: the network itself must have tried.
        metric = d.data.schema.metric
        if not e.final(f"train_{metric}") > e.final(f"valid_{metric}") + 0.03:
            return False
        if d.data.schema.is_regression:
            return True
        recalled, error = d.recognised_by_phrases
        classes = len(np.unique(d.train.y))
        return not recalled - 2.5 * error > 1 / classes
    if d.data.schema.is_regression:
        told = [d.neighbours.mean(1), d.out_of_fold[:, 0]]
        errors = [((numbers - d.train.y) ** 2).mean() for numbers in told]
        return bool(min(errors) > 0.95 * d.train.y.var())
    classes = len(np.unique(d.train.y))
    recalls = (d.recognised, d.recognised_by_models)
    # Of a handful of examples of the rare classes nothing can be said.
    is_known = all(2.5 * error < 0.5 / classes for _, error in recalls)
    is_at_constant = all(recall - 2.5 * error < 1 / classes for recall, error in recalls)
    return classes > 1 and is_known and is_at_constant


def shuffled_labels(e: Evidence, s: Signs) -> Finding | None:
    """The inputs have structure, but labels have nothing to do with it."""
    d = _rows(e)
    if d is None or not is_at_chance(e) or not _nothing_is_told(e, d):
        return None
    if _is_nearly_one_class(e) or is_wide(e):
        return None
    # Texts have structure whatever they say.
    if not d.data.schema.is_text and not d.structure > 2:
        return None
    return _without_relation(e, s, d, "shuffled_labels")


def nothing_to_learn(e: Evidence, s: Signs) -> Finding | None:
    """Inputs say nothing of the targets."""
    d = _rows(e)
    if d is None or not is_at_chance(e) or not _nothing_is_told(e, d):
        return None
    if _is_nearly_one_class(e) or is_wide(e):
        return None
    return _without_relation(e, s, d, "nothing_to_learn")


def _is_nearly_one_class(e: Evidence) -> bool:
    """Whether a constant answer is nearly always right, and being no better says nothing."""
    return bool(sum(e.class_counts)) and max(e.class_counts) > 0.9 * sum(e.class_counts)


def _without_relation(e: Evidence, s: Signs, d: DataEvidence, cause: str) -> Finding:
    figures: dict[str, float | int | str] = {
        "held_out": e.final(f"valid_{e.metric}"),
        "neighbours": d.reference("valid"),
    }
    if not d.data.schema.is_text:  # whose structure does not show by this
        figures["structure"] = d.structure
    other = "nothing_to_learn" if cause == "shuffled_labels" else "shuffled_labels"
    return found(cause, 1.0, figures, prescribe("check_labels"), also=[other])


def label_noise(e: Evidence, s: Signs) -> Finding | None:
    """Labels contradict out-of-fold models where these are most confident.

    Those of classes that overlap do so, too, but less where the models are more confident, and by
    labels that are the models' second choice; wrong labels may be any. Where inputs say little of
    the classes, overlap and wrong labels cannot be told apart, and nothing is found.
    """
    d = _rows(e)
    if d is None or d.data.schema.task != "classification" or d.data.schema.is_text:
        return None
    contradiction = d.contradiction
    share, examples = contradiction.share, contradiction.examples
    low, high = wilson_interval(share, examples)
    # Which class a wrong label is says nothing of few classes, so more is asked for.
    is_few = d.data.schema.outputs <= 3
    least, as_sure, skill = (0.18, 0.75, 0.25) if is_few else (0.1, 0.6, 0.15)
    # Of pictures more can be seen than their pixels, one by one, tell a model.
    skill = max(skill, _SKILL_OF_PICTURES) if d.data.schema.is_image else skill
    if examples < 40 or not low > least or not share > as_sure * contradiction.of_half:
        return None
    # Models that hardly know better than a constant are wrong where they are surest, too.
    if not _skill(d) > skill or contradiction.rank < _ANY_CLASS:
        return None
    figures: dict[str, float | int | str] = {
        "share": share,
        "low": low,
        "high": high,
        "examples": examples,
    }
    if is_few:
        figures["classes"] = d.data.schema.outputs
    return found(
        "label_noise",
        min(1.0, 0.3 + share),
        figures,
        prescribe("look_at_suspects"),
        prescribe("a_little_smoothing", "loss.label_smoothing=0.1"),
        *_if_memorised(e),
    )


def _skill(d: DataEvidence) -> float:
    """Return which share of a constant answer's errors the out-of-fold models avoid."""
    counts = np.bincount(d.train.y.astype(int))
    constant = float(counts.max() / counts.sum())
    return (d.contradiction.accuracy - constant) / max(1e-12, 1 - constant)


def _if_memorised(e: Evidence) -> list[Prescription]:
    """Return what keeps wrong labels from being learnt by heart, where they are."""
    if not e.final("train_accuracy") > e.final("valid_accuracy") + 0.1:
        return []
    return against_memorising(e)


def outliers_in_inputs(e: Evidence, s: Signs) -> Finding | None:
    """A few values lie so far out that the scale of all others is lost."""
    d = _rows(e)
    if d is None or d.data.schema.is_text:
        return None
    # Such a scale is that of most values.
    if e.recipe is not None and e.recipe.normalize in ("clipped", "robust"):
        return None
    reach, share = d.far_inputs
    column, far, share_of_column = d.far_features()
    if d.data.schema.is_table and far > 30 and share_of_column < 0.05:
        figures: dict[str, float | int | str] = {"reach": far, "share": share_of_column}
        where = column
    elif reach > 30 and share < 0.05:
        figures, where = {"reach": reach, "share": share}, "values"
    else:
        return None
    return found(
        "outliers_in_inputs",
        max(0.4, float(np.nan_to_num(s.unlearnt))),
        {"column": where, **figures},
        prescribe("look_at_outliers"),
        prescribe("cut_off_inputs", "normalize=clipped"),
        prescribe("robust_scale", "normalize=robust"),
    )


def outliers_in_target(e: Evidence, s: Signs) -> Finding | None:
    """A few targets lie so far out that the squared error is theirs alone."""
    d = _rows(e)
    if d is None or not d.data.schema.is_regression:
        return None
    reach, share = d.far_targets
    if not reach > 8 or share > 0.08:
        return None
    return found(
        "outliers_in_target",
        max(0.5, float(np.nan_to_num(s.unlearnt))),
        {"reach": reach, "share": share},
        prescribe("look_at_outliers"),
        prescribe("absolute_error", "loss=absolute-error"),
        prescribe("huber_loss", "loss=huber", "loss.delta=0.1"),
        *([prescribe("log_target", "data.log_target=true")] if d.has_positive_targets else []),
    )


def target_leak(e: Evidence, s: Signs) -> Finding | None:
    """One column, a mark in the margin of pictures or a word for each class gives it away."""
    d = _rows(e)
    if d is None or len(d.train.y) < 40 or d.telling is None:
        return None
    # Of a single column it is what the target is to be told by.
    if len(d.data.schema.input_shape) == 1 and len(set(d.data.schema.column_of_features)) < 2:
        return None
    column, best, other = d.telling
    lost = 1 - best
    if best < ALL or (1 - other) < 3 * lost + (1 - ALL):
        return None
    return found(
        "target_leak",
        0.8,
        {"column": column, "tells": best, "next": other},
        prescribe("drop_column"),
        also=["train_test_shift"],
    )


def leak_duplicates(e: Evidence, s: Signs) -> Finding | None:
    """Examples of the held-out parts are, nearly, examples of training."""
    if e.data is None:
        return None
    for part in ("test", "valid"):
        share, copies = e.data.near_copies(part)
        if share > 0.1 and copies >= 5:
            return found(
                "leak_duplicates",
                min(1.0, 0.3 + share),
                {"part": part, "copies": copies, "share": share},
                prescribe("drop_copies"),
            )
    return None


def vocabulary_too_small(e: Evidence, s: Signs) -> Finding | None:
    """Much of the text is unknown words."""
    if e.data is None or not e.data.data.schema.is_text:
        return None
    share = e.data.unknown_share
    if not share > 0.1:
        return None
    tokens = e.data.data.schema.tokens
    return found(
        "vocabulary_too_small",
        min(1.0, 0.2 + share),
        {"share": share, "tokens": tokens},
        prescribe("larger_vocabulary", f"data.vocabulary={10 * tokens}"),
    )


def wrong_task(e: Evidence, s: Signs) -> Finding | None:
    """Few whole numbers, each many times: they look like classes. Or classes that are numbers."""
    d = _rows(e)
    if d is None:
        return None
    if not d.data.schema.is_regression:
        return _numbers_as_classes(e)
    values = np.unique(d.train.y)
    is_whole = bool(np.all(values == np.round(values)))
    # What grows with the inputs is a rating or a count.
    if d.errors_of_models[0] < _ORDERED:
        return None
    if not is_whole or not 2 <= len(values) <= 30 or len(d.train.y) < 8 * len(values):
        return None
    return found(
        "wrong_task",
        0.6,
        {"values": len(values), "examples": len(d.train.y)},
        prescribe("as_classes", "data.task=classification"),
    )


def _numbers_as_classes(e: Evidence) -> Finding | None:
    """Classes are numbers, and what is taken for one is often one beside it."""
    confusion, schema = e.confusion, e.schema
    if confusion is None or schema is None or not confusion.sum():
        return None
    try:
        values = np.array([float(name) for name in schema.classes])
    except ValueError:
        return None
    right = float(np.trace(confusion) / confusion.sum())
    if len(values) < _MANY_CLASSES or right > 0.5:
        return None
    truth, chosen = np.nonzero(confusion)
    if len(truth) < 3 or not np.isfinite(values).all():
        return None
    times = confusion[truth, chosen]
    related = _weighted_correlation(values[truth], values[chosen], times)
    figures = {"classes": len(values), "right": right, "related": related}
    if not related > 0.7:
        # Of a handful each no class is learnt, but numbers may be.
        is_rare = _targets_by_value(e) < _FEW_OF_A_VALUE and e.data is not None
        told = e.data.told_as_numbers(values) if is_rare and e.data is not None else 0.0
        if not told > _TOLD:
            return None
        figures = {"classes": len(values), "right": right, "told": told}
    return found(
        "wrong_task",
        max(0.6, 1 - right),
        {**figures},
        prescribe("as_numbers", "data.task=regression"),
    )


def _targets_by_value(e: Evidence) -> float:
    counts = [count for count in e.class_counts if count]
    return sum(counts) / max(1, len(counts))


def _weighted_correlation(x: Numbers, y: Numbers, weights: Numbers) -> float:
    covariance = np.cov(x, y, aweights=weights)
    scale = math.sqrt(covariance[0, 0] * covariance[1, 1])
    return float(covariance[0, 1] / scale) if scale > 0 else 0.0


_GAP = ("overfitting", "overtrained", "too_little_data")
# What is left to learn is no sign of these, where it is noise.
_SETTINGS = ("optimizer_eps", "momentum_too_high", "dropout_too_strong", "schedule_decays_too_soon")
_UNRELATED = ("shuffled_labels", "nothing_to_learn")
RULES = (
    Rule(
        "constant_target",
        constant_target,
        (*HELD_BACK, *_GAP, *_UNRELATED, "train_test_shift", "class_imbalance"),
    ),
    Rule(
        "outliers_in_target",
        outliers_in_target,
        (*HELD_BACK, *_GAP, *_UNRELATED, "train_test_shift"),
    ),
    Rule(
        "outliers_in_inputs",
        outliers_in_inputs,
        (*HELD_BACK, *_GAP, *_UNRELATED, "init_too_small"),
    ),
    Rule("vocabulary_too_small", vocabulary_too_small, (*_UNRELATED, *HELD_BACK)),
    Rule("shuffled_labels", shuffled_labels, (*HELD_BACK, *_GAP, "nothing_to_learn")),
    Rule("nothing_to_learn", nothing_to_learn, (*HELD_BACK, *_GAP)),
    Rule("target_leak", target_leak, ("train_test_shift", *_GAP)),
    Rule("leak_duplicates", leak_duplicates, ("train_test_shift", *_GAP)),
    Rule("wrong_task", wrong_task, ("class_imbalance", *HELD_BACK, *_GAP, *_UNRELATED)),
    Rule("label_noise", label_noise, (*HELD_BACK, *_GAP, *_SETTINGS, "train_test_shift")),
)
