"""The figure that counts, with its interval, in a sentence.

Legend: n examples, K classes.
"""

from __future__ import annotations

import math

import numpy as np

from danlu import metrics
from danlu.data.parts import TITLES
from danlu.data.target_scale import in_units
from danlu.errors import count
from danlu.metrics import Predicted
from danlu.runs import Run
from danlu.runs.saved_outputs import has_outputs, read_outputs
from danlu.statistics import auc_interval, confusion_interval, estimate

_MOST_CLASSES = 60  # whose confusions are drawn again for an interval

Interval = tuple[float, float]


def predicted_of(run: Run) -> Predicted | None:
    """Return what a run predicts on the last part read; None where that is not kept."""
    if not has_outputs(run.sealed) or run.schema.each_token:
        return None
    kept = read_outputs(run.sealed)
    targets = kept["targets"].numpy()
    if run.schema.is_regression:
        numbers = in_units(kept["outputs"][:, 0].double(), run.schema)
        return Predicted(targets, numbers.numpy())
    probabilities = kept["outputs"].double().softmax(1)
    return Predicted(targets, probabilities.argmax(1).numpy(), probabilities.numpy())


def headline(run: Run, part: str) -> str | None:
    """Return what a run reached by the figure that counts; None for accuracy, R² and the like.

    Those have sentences of their own.
    """
    name = run.chosen_metric
    if name in run.schema.metrics[:1] or f"{part}_{name}" not in run.result:
        return None
    value = run.result[f"{part}_{name}"]
    title = metrics.title_of(name)
    n = count(run.result[f"{part}_n"], "example")
    if math.isnan(value):
        return f"{TITLES[part].capitalize()} {title} is undefined on these {n}."
    predicted = predicted_of(run)
    ends = interval(name, predicted) if predicted is not None else None
    between = "" if ends is None else f"95 % interval {ends[0]:.4g} to {ends[1]:.4g}, "
    return f"{TITLES[part].capitalize()} {title} is {value:.4g} ({between}{n})."


def interval(name: str, p: Predicted) -> Interval | None:
    """Return the 95 % interval of a figure over examples; None where there is no simple one."""
    if name == "mae":
        found = estimate(np.abs(p.chosen - p.targets).tolist())
        return None if math.isnan(found.low) else (found.low, found.high)
    if name in ("macro_f1", "balanced_accuracy"):
        return _of_confusions(name, p)
    is_binary = p.probabilities is not None and p.probabilities.shape[1] == 2
    if name == "auc" and is_binary:
        assert p.probabilities is not None
        low, high = auc_interval(p.targets == 1, p.probabilities[:, 1])
        return None if math.isnan(low) else (low, high)
    return None


def _of_confusions(name: str, p: Predicted) -> Interval | None:
    k = 1 + int(max(p.targets.max(), p.chosen.max()))
    if k > _MOST_CLASSES:
        return None
    pairs = np.bincount(p.targets * k + p.chosen, minlength=k * k).reshape(k, k)
    return confusion_interval(pairs, balanced=name == "balanced_accuracy")
