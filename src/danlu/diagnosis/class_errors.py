"""Errors by class, and whether the network is as right as it is sure.

Legend: n examples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from danlu.diagnosis import catalogue
from danlu.diagnosis.evidence import Evidence
from danlu.files import with_nulls
from danlu.metrics import Predicted
from danlu.statistics import estimate, holm, wilson_interval

_SHOWN = 3  # classes that are told in a sentence
_LEVEL = 0.05
_MATERIAL = 0.02  # by which it is too sure, or not sure enough


@dataclass(frozen=True)
class ClassError:
    """How often examples of a class are recognised, with its 95 % interval."""

    name: str
    examples: int
    recall: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassErrors:
    """By class on the last part that was read, the worst first; classes without examples left out.

    worse: those shown to be recognised less often than all others together. accuracy: how often
    what is predicted is right; confidence: its mean probability. overconfidence, low, high: their
    difference with its 95 % interval over examples.
    """

    part: str
    classes: Sequence[ClassError]
    worse: Sequence[str]
    accuracy: float
    confidence: float
    overconfidence: float
    low: float
    high: float

    def sentences(self, language: str = "en") -> list[str]:
        """Return the worst classes where they are shown to be worse, and how sure it is."""
        told = []
        worse = [c for c in self.classes if c.name in self.worse][:_SHOWN]
        if worse:
            between = "、" if language == "zh" else ", "
            listed = [catalogue.of_errors("class", asdict(one), language) for one in worse]
            words = {"classes": between.join(listed), "part": self._part(language)}
            told.append(catalogue.of_errors("classes", words, language))
        if abs(self.overconfidence) > _MATERIAL and not self.low <= 0 <= self.high:
            name = "too_sure" if self.overconfidence > 0 else "not_sure"
            low, high = sorted((abs(self.low), abs(self.high)))
            figures: dict[str, Any] = {
                "sure": self.confidence,
                "right": self.accuracy,
                "low": low,
                "high": high,
            }
            figures["part"] = self._part(language)
            told.append(catalogue.of_errors(name, figures, language))
        return told

    def _part(self, language: str) -> str:
        return catalogue.part(self.part, language)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        plain: dict[str, Any] = with_nulls(asdict(self))
        return plain


def class_errors(e: Evidence) -> ClassErrors | None:
    """Return the errors by class; None where no classes are predicted, or that is not kept."""
    if e.predicted is None or e.schema is None or e.schema.task != "classification":
        return None
    p = e.predicted
    assert p.probabilities is not None
    known = p.targets >= 0
    if not known.any():
        return None
    right = (p.chosen == p.targets)[known].astype(float)
    sure = p.probabilities.max(1)[known]
    found = estimate((sure - right).tolist())
    classes = sorted(_by_class(p, e.schema.classes), key=lambda c: c.recall)
    part = next((part for part in ("test", "valid") if f"{part}_loss" in e.result), "train")
    return ClassErrors(
        part,
        classes,
        _worse(classes),
        float(right.mean()),
        float(sure.mean()),
        found.mean,
        found.low,
        found.high,
    )


def _worse(classes: Sequence[ClassError]) -> list[str]:
    """Return the classes that are missed more often than all others together.

    By the binomial test of each, corrected by Holm.
    """
    from scipy.special import bdtrc  # scipy.stats takes three times as long to import

    missed = [round(c.examples * (1 - c.recall)) for c in classes]
    levels = []
    for c, own in zip(classes, missed, strict=True):
        others = sum(other.examples for other in classes) - c.examples
        # Where the others make no mistake, as if they had made half a one.
        rate = max(sum(missed) - own, 0.5) / others if others else 1.0
        levels.append(float(bdtrc(own - 1, c.examples, rate)) if own else 1.0)
    return [c.name for c, p in zip(classes, holm(levels), strict=True) if p < _LEVEL]


def _by_class(p: Predicted, names: Sequence[str]) -> list[ClassError]:
    found = []
    for k in np.unique(p.targets[p.targets >= 0]).tolist():
        is_class = p.targets == k
        n = int(is_class.sum())
        recall = float((p.chosen[is_class] == k).mean())
        found.append(ClassError(names[k], n, recall, *wilson_interval(recall, n)))
    return found
