"""Where the error lies: bias, variance or shift, against an error that can be reached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from danlu.diagnosis import catalogue
from danlu.diagnosis.evidence import Evidence
from danlu.errors import RunError, wrong
from danlu.files import with_nulls
from danlu.statistics import difference_interval, wilson_interval

GIVEN, NEIGHBOURS, UNKNOWN = "given", "neighbours", "unknown"
_LEAST = 0.01  # an error that nobody minds
_HAVE_CURES = ("bias", "variance", "both")
_SHARE = 0.25  # of the held-out error, from which a part of it is high


@dataclass(frozen=True)
class Gap:
    """The difference of two errors with its 95 % interval; NaN ends where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def is_high(self, error: float) -> bool:
        """Whether it is a good part of a held-out error, and shown not to be 0."""
        is_shown = math.isnan(self.low) or self.low > 0
        return is_shown and self.value > max(_LEAST, _SHARE * error)


@dataclass(frozen=True)
class ErrorParts:
    """Errors on the parts (1 − accuracy, or 1 − R²), and what they are made of.

    reference: the error that can be reached. It is given, or nearest neighbours reach it, so that
    it is an upper bound; else unknown, and NaN. bias: training − reference. variance: validation −
    training. shift: test − validation.
    """

    reference: float
    known_by: str
    training: float
    validation: float
    test: float
    bias: Gap
    variance: Gap
    shift: Gap

    @property
    def case(self) -> str:
        """Which of the four cases it is, or what the training error may be made of."""
        bias, variance = self.bias.is_high(self.validation), self.variance.is_high(self.validation)
        if bias and variance:
            return "both"
        if bias:
            return "bias"
        is_unexplained = self.known_by != GIVEN and self.training > max(
            _LEAST, _SHARE * self.validation
        )
        if variance:
            return "variance_or_more" if is_unexplained else "variance"
        return "bias_or_noise" if is_unexplained else "neither"

    def sentences(self, language: str = "en", cures: bool = True) -> list[str]:
        """Return the errors, what they say, and what helps against each case in general."""
        figures = {"training": self.training, "validation": self.validation}
        figures |= {"reference": self.reference, "bias": self.bias.value}
        figures |= {"variance": self.variance.value}
        names = ["parts", self.known_by, self.case]
        if cures and self.case in _HAVE_CURES:
            names.append(f"{self.case}_cures")
        return [catalogue.of_errors(name, figures, language) for name in names]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        figures: dict[str, Any] = {
            "case": self.case,
            "reference": self.reference,
            "known_by": self.known_by,
            "training": self.training,
            "validation": self.validation,
            "test": self.test,
        }
        for name in ("bias", "variance", "shift"):
            gap = getattr(self, name)
            figures[name] = {"value": gap.value, "low": gap.low, "high": gap.high}
        plain: dict[str, Any] = with_nulls(figures)
        return plain


def check_target_error(error: float | None) -> None:
    """Raise RunError for an error that is no share."""
    if error is not None and not 0 <= error < 1:
        rule = "must be 0 or more and below 1: a share of mistakes (of numbers, 1 − R²)"
        raise RunError(wrong("target_error", error, rule, "try 0.05"))


def error_parts(e: Evidence) -> ErrorParts | None:
    """Return what the error is made of; None where training or validation part have no figure."""
    metric = "accuracy" if e.schema is None else e.schema.metric
    training, validation, test = (1 - e.final(f"{p}_{metric}") for p in ("train", "valid", "test"))
    if math.isnan(training) or math.isnan(validation):
        return None
    reference, known_by = _reference(e)
    return ErrorParts(
        reference,
        known_by,
        training,
        validation,
        test,
        _bias(e, training, reference),
        _gap(e, "valid", "train", validation - training),
        _gap(e, "test", "valid", test - validation),
    )


def _reference(e: Evidence) -> tuple[float, str]:
    if e.target_error is not None:
        return e.target_error, GIVEN
    if e.data is None or not e.data.has_features:
        return math.nan, UNKNOWN
    error = 1 - e.data.reference("valid")
    return (math.nan, UNKNOWN) if math.isnan(error) else (error, NEIGHBOURS)


def _has_intervals(e: Evidence) -> bool:
    """Whether an error is a share of examples that have nothing to do with each other."""
    return e.schema is not None and e.schema.task == "classification"


def _bias(e: Evidence, training: float, reference: float) -> Gap:
    n = e.final("train_n")
    if not _has_intervals(e) or math.isnan(n):
        return Gap(training - reference)
    low, high = wilson_interval(training, int(n))
    return Gap(training - reference, low - reference, high - reference)


def _gap(e: Evidence, part: str, before: str, difference: float) -> Gap:
    """Return by how much the error on a part is larger than on the one before."""
    n, m = e.final(f"{part}_n"), e.final(f"{before}_n")
    if not _has_intervals(e) or math.isnan(n) or math.isnan(m) or math.isnan(difference):
        return Gap(difference)
    errors = [1 - e.final(f"{p}_accuracy") for p in (part, before)]
    low, high = difference_interval(errors[0], int(n), errors[1], int(m))
    return Gap(difference, low, high)
