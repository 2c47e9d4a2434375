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
_LEAST_UNSHOWN = 0.05
_MOST = 2.0  # 1 − R² of a network that is worse than nothing
_HAVE_CURES = ("bias", "variance", "both")
_SHARE = 0.25  # of the held-out error, from which a part of it is high


@dataclass(frozen=True)
class Gap:
    """The difference of two errors with its 95 % interval; NaN ends where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def is_high(self, error: float) -> bool:
        """Whether it is a good part of a held-out error, and shown not to be 0.

        Without an interval it must be larger.
        """
        if math.isnan(self.low):
            return self.value > max(_LEAST_UNSHOWN, _SHARE * error)
        return self.low > 0 and self.value > max(_LEAST, _SHARE * error)


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
    is_of_numbers: bool = False

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
        # What a network is better by than was held to be possible is no bias.
        figures |= {"reference": self.reference, "bias": max(0.0, self.bias.value)}
        figures |= {"variance": max(0.0, self.variance.value)}
        parts = "parts_of_numbers" if self.is_of_numbers else "parts"
        names = [parts, self.case]
        # A reference that is worse than the network says nothing.
        if self.known_by == GIVEN or (
            self.known_by == NEIGHBOURS and self.reference < self.training
        ):
            names.insert(1, self.known_by)
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
    """Return what the error is made of; None where that is not known, or is no share.

    Of texts whose every token has a target there is none: tokens depend on one another.
    """
    if e.schema is None or e.schema.each_token:
        return None
    metric = e.schema.metric
    training, validation, test = (1 - e.final(f"{p}_{metric}") for p in ("train", "valid", "test"))
    is_known = not math.isnan(training) and not math.isnan(validation)
    if not is_known or max(training, validation) > _MOST:
        return None
    reference, known_by = _reference(e)
    return ErrorParts(
        reference.value,
        known_by,
        training,
        validation,
        test,
        Gap(training - reference.value, training - reference.high, training - reference.low),
        _gap(e, "valid", training, validation),
        _difference(e, validation, test),
        e.schema.is_regression,
    )


def _reference(e: Evidence) -> tuple[Gap, str]:
    """Return the error that can be reached, with its interval where it is measured."""
    if e.target_error is not None:
        return Gap(e.target_error, e.target_error, e.target_error), GIVEN
    unknown = Gap(math.nan), UNKNOWN
    if e.data is None or not e.data.has_features:
        return unknown
    error = 1 - e.data.reference("valid")
    if math.isnan(error):
        return unknown
    return _measured(e, error, e.data.part_size("valid")), NEIGHBOURS


def _measured(e: Evidence, error: float, n: float) -> Gap:
    """Return an error on n examples; only a share of mistakes has an interval."""
    if e.schema is None or e.schema.is_regression or math.isnan(n) or not 0 <= error <= 1:
        return Gap(error)
    return Gap(error, *wilson_interval(error, int(n)))


def _gap(e: Evidence, part: str, before: float, error: float) -> Gap:
    """Return by how much the error on a part is above one that is known exactly."""
    own = _measured(e, error, e.final(f"{part}_n"))
    return Gap(error - before, own.low - before, own.high - before)


def _difference(e: Evidence, validation: float, test: float) -> Gap:
    """Return by how much the error on the test part is above that on the validation part."""
    difference = test - validation
    n_test, n_valid = e.final("test_n"), e.final("valid_n")
    is_known = not any(map(math.isnan, (difference, n_test, n_valid)))
    if e.schema is None or e.schema.is_regression or not is_known:
        return Gap(difference)
    low, high = difference_interval(test, int(n_test), validation, int(n_valid))
    return Gap(difference, low, high)
