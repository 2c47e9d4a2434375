"""The figures that predictions are scored by, by name.

They are scikit-learn's, whose import takes longer than most trainings: here they are written in
NumPy, and held to scikit-learn by tests. Legend: n examples, K classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.statistics import mean_ranks

Array = NDArray[Any]

CALIBRATION_BINS = 15
_TOP = re.compile(r"top([1-9]\d*)_accuracy")


@dataclass(frozen=True)
class Predicted:
    """What is predicted, beside the truth.

    targets [n]: class numbers, −1 of a class that is not known; or numbers. chosen [n]: the class,
    or the number. probabilities [n, K]; None where only the choice is kept.
    """

    targets: Array
    chosen: Array
    probabilities: Array | None = None

    @property
    def known(self) -> Predicted:
        """The examples of classes that are known."""
        is_known = self.targets >= 0
        if self.probabilities is None or is_known.all():
            return self
        return Predicted(
            self.targets[is_known], self.chosen[is_known], self.probabilities[is_known]
        )


@dataclass(frozen=True)
class Metric:
    """A figure: its title, whether more is better, and what computes it from what is predicted.

    needs: "choices", "probabilities" or "numbers".
    """

    title: str
    higher_is_better: bool
    needs: str
    value: Callable[[Predicted], float]


def _balanced_accuracy(p: Predicted) -> float:
    _, recall, _, support = by_class(p)
    if not support.any():
        return math.nan
    return float(recall[support > 0].mean())


def _macro_f1(p: Predicted) -> float:
    _, _, f1, support = by_class(p)
    predicted = np.bincount(p.chosen, minlength=len(f1))
    # A class that neither occurs nor is predicted is no part of the question.
    return float(f1[(support > 0) | (predicted > 0)].mean())


def by_class(p: Predicted, classes: int = 0) -> tuple[Array, Array, Array, Array]:
    """Return precision, recall, F1 and the examples of each class, [K] each.

    A ratio of nothing to nothing is 0.
    """
    k = max(classes, int(p.targets.max()) + 1, int(p.chosen.max()) + 1)
    if p.probabilities is not None:
        k = max(k, p.probabilities.shape[1])
    is_right = p.chosen == p.targets
    right = np.bincount(p.chosen[is_right], minlength=k)
    predicted = np.bincount(p.chosen, minlength=k)
    support = np.bincount(p.targets[p.targets >= 0], minlength=k)
    precision = right / np.maximum(predicted, 1)
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(predicted + support, 1)
    return precision, recall, f1, support


def _mean_over_classes(score: Callable[[Array, Array], float]) -> Callable[[Predicted], float]:
    """Return one-versus-rest scores' mean over the classes that occur; of two, of the second."""

    def value(p: Predicted) -> float:
        p = p.known
        assert p.probabilities is not None
        counts = np.bincount(p.targets, minlength=p.probabilities.shape[1])
        # Against the rest is against nothing where there is no rest.
        classes = [k for k, n in enumerate(counts) if 0 < n < len(p.targets)]
        if p.probabilities.shape[1] == 2:
            classes = [k for k in classes if k == 1]
        if not classes:
            return math.nan
        scores = [score(p.targets == k, p.probabilities[:, k]) for k in classes]
        return float(np.mean(scores))

    return value


def _auc(is_class: Array, probability: Array) -> float:
    """Return the chance that one of the class has a higher probability than one of the rest."""
    n = int(is_class.sum())
    m = len(is_class) - n
    above = mean_ranks(probability)[is_class].sum() - n * (n + 1) / 2
    return float(above / (n * m))


def _average_precision(is_class: Array, probability: Array) -> float:
    """Return Σ (Rₙ − Rₙ₋₁) Pₙ over thresholds from the highest down."""
    thresholds, place = np.unique(-probability, return_inverse=True)
    of_class = np.bincount(place, weights=is_class, minlength=len(thresholds))
    taken = np.cumsum(np.bincount(place, minlength=len(thresholds)))
    precision = np.cumsum(of_class) / taken
    return float((precision * of_class).sum() / is_class.sum())


def _brier(p: Predicted) -> float:
    """Return the mean of Σ (p − y)² over classes; for two, of the second class alone."""
    p = p.known
    assert p.probabilities is not None
    if not len(p.targets):
        return math.nan
    errors = p.probabilities.astype(np.float64)
    errors[np.arange(len(errors)), p.targets] -= 1
    classes = 1 if errors.shape[1] > 2 else 2
    return float(np.square(errors).sum(1).mean() / classes)


def reliability(p: Predicted, bins: int = CALIBRATION_BINS) -> tuple[Array, Array, Array]:
    """Return mean confidence, accuracy and examples of each bin of confidence that is not empty.

    (Guo et al. 2017, "On calibration of modern neural networks".)
    """
    p = p.known
    assert p.probabilities is not None
    confidence = p.probabilities.max(1).astype(np.float64)
    is_right = p.chosen == p.targets
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    there = counts > 0
    sums = (np.bincount(bin_of, values, minlength=bins)[there] for values in (confidence, is_right))
    confidence_of_bin, accuracy_of_bin = (total / counts[there] for total in sums)
    return confidence_of_bin, accuracy_of_bin, counts[there]


def _calibration_error(p: Predicted) -> float:
    if not len(p.known.targets):
        return math.nan
    confidence, accuracy, counts = reliability(p)
    return float((np.abs(confidence - accuracy) * counts).sum() / counts.sum())


def _top(k: int) -> Callable[[Predicted], float]:
    """Return the share of examples whose class is among the k likeliest."""

    def value(p: Predicted) -> float:
        known = p.known
        assert known.probabilities is not None
        rows = np.arange(len(known.targets))
        of_class = known.probabilities[rows, known.targets]
        above = known.probabilities > of_class[:, None]
        # Of equal ones the first counts, as where the likeliest is chosen.
        earlier = np.arange(known.probabilities.shape[1]) < known.targets[:, None]
        equal = (known.probabilities == of_class[:, None]) & earlier
        return float(((above | equal).sum(1) < k).sum()) / len(p.targets)

    return value


def _mean_absolute_error(p: Predicted) -> float:
    return float(np.abs(p.chosen - p.targets).mean())


def _root_mean_squared_error(p: Predicted) -> float:
    return float(np.sqrt(np.square(p.chosen - p.targets).mean()))


def _median_absolute_error(p: Predicted) -> float:
    return float(np.median(np.abs(p.chosen - p.targets)))


def _computed_with_the_loss(p: Predicted) -> float:
    raise NotImplementedError("loss, accuracy, R² and entities' F1 are summed pass by pass")


METRICS: dict[str, Metric] = {
    "loss": Metric("loss", False, "", _computed_with_the_loss),
    "accuracy": Metric("accuracy", True, "", _computed_with_the_loss),
    "r2": Metric("R²", True, "", _computed_with_the_loss),
    "f1": Metric("F1", True, "", _computed_with_the_loss),
    "balanced_accuracy": Metric("balanced accuracy", True, "choices", _balanced_accuracy),
    "macro_f1": Metric("macro-F1", True, "choices", _macro_f1),
    "auc": Metric("AUC", True, "probabilities", _mean_over_classes(_auc)),
    "average_precision": Metric(
        "average precision", True, "probabilities", _mean_over_classes(_average_precision)
    ),
    "brier": Metric("Brier score", False, "probabilities", _brier),
    "calibration_error": Metric("calibration error", False, "probabilities", _calibration_error),
    "mae": Metric("mean absolute error", False, "numbers", _mean_absolute_error),
    "rmse": Metric("root mean squared error", False, "numbers", _root_mean_squared_error),
    "median_error": Metric("median absolute error", False, "numbers", _median_absolute_error),
}
# What other libraries call them.
_ALIASES = {
    "log_loss": "loss",
    "logloss": "loss",
    "cross_entropy": "loss",
    "acc": "accuracy",
    "f1_macro": "macro_f1",
    "roc_auc": "auc",
    "auroc": "auc",
    "ap": "average_precision",
    "brier_score": "brier",
    "ece": "calibration_error",
    "r2_score": "r2",
    "mean_absolute_error": "mae",
    "median_absolute_error": "median_error",
}
PARTS = ("train", "valid", "test")


def part_and_name(metric: str) -> tuple[str | None, str]:
    """Return the part and the figure of valid_macro_f1; None for a figure without a part."""
    part, _, rest = metric.partition("_")
    if part in PARTS and rest:
        return part, rest
    return None, metric


def canonical(name: str) -> str:
    """Return a figure's own name for what another library calls it; part_ before it stays."""
    part, plain = part_and_name(name.lower().replace("-", "_"))
    own = _ALIASES.get(plain, plain)
    return f"{part}_{own}" if part else own


def find(name: str) -> Metric | None:
    """Return the figure of a name such as "auc" or "top3_accuracy"; None where there is none."""
    top = _TOP.fullmatch(name)
    if top:
        k = int(top[1])
        return Metric(f"top-{k} accuracy", True, "probabilities", _top(k))
    return METRICS.get(name)


def available(task: str, classes: int, has_entities: bool) -> tuple[str, ...]:
    """Return the names of the figures of a task; the first is what is chosen by unasked."""
    if task == "regression":
        return ("r2", "loss", "mae", "rmse", "median_error")
    if task == "language":
        return ("loss", "accuracy")
    if task == "pairs":
        return ("accuracy", "loss")
    if task == "tagging":
        of_entities = ("f1",) if has_entities else ()
        return (*of_entities, "accuracy", "loss", "balanced_accuracy", "macro_f1")
    needed = ("", "choices", "probabilities")
    names = [name for name, metric in METRICS.items() if metric.needs in needed]
    found = ["accuracy", *(name for name in names if name not in ("accuracy", "r2", "f1"))]
    if classes > 5:
        found.append("top5_accuracy")
    return tuple(found)


def is_available(name: str, task: str, classes: int, has_entities: bool) -> bool:
    """Whether a task has a figure: one of `available`, or topK_accuracy for K below its classes."""
    top = _TOP.fullmatch(name)
    if top:
        return task == "classification" and int(top[1]) < classes
    return name in available(task, classes, has_entities)


def title_of(name: str) -> str:
    """Return a figure in words: "valid_macro_f1" is "valid macro-F1"."""
    part, rest = part_and_name(name)
    if part:
        return f"{part} {title_of(rest)}"
    metric = find(name)
    return metric.title if metric else name.replace("_", " ")


def higher_is_better(name: str) -> bool:
    """Whether more of a figure such as "valid_accuracy" is better, unlike of a loss."""
    metric = find(part_and_name(name)[1])
    return metric is not None and metric.higher_is_better


def computed(names: Sequence[str]) -> list[str]:
    """Return those of the names that need what was predicted, beside sums of each pass."""
    return [name for name in names if (metric := find(name)) is not None and metric.needs]


def compute(names: Sequence[str], p: Predicted) -> dict[str, float]:
    """Return figures by name; NaN for one that these examples leave undefined."""
    values = {}
    for name in names:
        metric = find(name)
        assert metric is not None
        is_undefined = metric.needs == "probabilities" and p.probabilities is None
        values[name] = math.nan if is_undefined else metric.value(p)
    return values


def default(names: Sequence[str], class_counts: Sequence[int]) -> str:
    """Return the figure to choose by unasked: where classes are imbalanced AUC of two, or macro-F1.

    There accuracy is high for whoever never names a rare class. names: what is available.
    """
    if "macro_f1" not in names or names[0] != "accuracy" or not is_imbalanced(class_counts):
        return names[0]
    is_binary = len(class_counts) == 2
    return "auc" if is_binary and "auc" in names else "macro_f1"


def note_on_default(
    names: Sequence[str], class_counts: Sequence[int], classes: Sequence[str]
) -> str | None:
    """Return why `default` is not the usual figure, in a sentence; None where it is."""
    chosen = default(names, class_counts)
    if chosen == names[0]:
        return None
    n = sum(class_counts)
    by_size = sorted(zip(class_counts, classes, strict=True), reverse=True)
    most, rarest = by_size[0], by_size[-1]
    return (
        f"Classes are imbalanced (from {most[1]!r}, {100 * most[0] / n:.1f} %, to {rarest[1]!r}, "
        f"{100 * rarest[0] / n:.1f} %), so what counts is {title_of(chosen)}; "
        f"--metric {names[0]} decides otherwise."
    )


# Two classes at 80 and 20 % count as so many, by the entropy of their shares.
_EFFECTIVE_CLASSES_OF_TWO = math.exp(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)))


def is_imbalanced(class_counts: Sequence[int]) -> bool:
    """Whether classes are less equal than two at 80 and 20 %.

    By exp(entropy of the shares)/K, the share of the classes that there effectively are.
    """
    counts = np.array([n for n in class_counts if n > 0], dtype=float)
    if len(counts) < 2:
        return False
    shares = counts / counts.sum()
    effective = math.exp(-float((shares * np.log(shares)).sum()))
    return effective / len(counts) < _EFFECTIVE_CLASSES_OF_TWO / 2
