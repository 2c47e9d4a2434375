"""Refusing data that nothing can be learnt from."""

from __future__ import annotations

import numpy as np

from danlu.data.memmap import Array
from danlu.data.schema import Schema
from danlu.errors import DataError, count, wrong

_ROWS = 8192  # rows looked at at once


def check_values(x: Array, y: Array, schema: Schema) -> None:
    """Raise DataError for too few examples, values that are not finite, labels of no class."""
    n = len(x)
    if n != len(y):
        raise DataError(
            f"the data have {count(n, 'example')}, but {count(len(y), 'label')}; "
            "each example needs one"
        )
    if n < 3:
        raise DataError(
            f"the data have {count(n, 'example')}, but training, validation and test parts need "
            "at least one each"
        )
    if x.dtype.kind == "f":
        _check_finite(x)
    if schema.is_regression:
        _check_numbers(y)
    elif schema.task == "classification":
        _check_classes(y, schema.classes)


def _check_finite(x: Array) -> None:
    for start in range(0, len(x), _ROWS):
        # In blocks, so that a mapped array is never in memory whole.
        rows = x[start : start + _ROWS]
        is_finite = np.isfinite(rows).reshape(len(rows), -1)
        is_bad = ~is_finite.all(1)
        if is_bad.any():
            example = start + int(np.flatnonzero(is_bad)[0])
            raise DataError(
                f"example {example} holds NaN or an infinite value; "
                "remove or fill such values before loading"
            )


def _check_numbers(y: Array) -> None:
    is_bad = ~np.isfinite(y)
    if is_bad.any():
        example = int(np.flatnonzero(is_bad)[0])
        raise DataError(
            f"the target of example {example} is {y[example]}, but must be a finite number"
        )


def _check_classes(y: Array, classes: tuple[str, ...]) -> None:
    low = int(y.min())
    high = int(y.max())
    if low < 0 or high >= len(classes):
        rule = f"must lie in 0…{len(classes) - 1} ({len(classes)} classes)"
        raise DataError(wrong("label", low if low < 0 else high, rule))
    if len(classes) < 2 or low == high:
        raise DataError(
            f"every example is of the one class {classes[low]!r}; classification needs at least two"
        )
    if len(y) < len(classes):
        raise DataError(
            f"the data have {count(len(y), 'example')} of {len(classes)} classes, "
            "but each class needs at least one per part"
        )
