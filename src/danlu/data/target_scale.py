"""Numbers to predict, as networks see them: standardised, or their logarithms so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from danlu.data.memmap import Array
from danlu.data.schema import Schema
from danlu.errors import DataError


def fitted(schema: Schema, y: Array) -> Schema:
    """Return the schema with mean and standard deviation of the training targets y [n].

    The deviation is 1 for a constant target. Raises DataError where the logarithm is to be learnt
    of what is not positive.
    """
    exact = y.astype(np.float64)
    if schema.log_target:
        if (exact <= 0).any():
            raise DataError(
                f"the target {schema.target!r} is {exact.min():g} somewhere, but only numbers "
                "above 0 have a logarithm; leave out --log-target"
            )
        exact = np.log(exact)
    std = float(exact.std())
    return replace(schema, scale=(float(exact.mean()), std or 1.0))


def standardised(y: Tensor, schema: Schema) -> Tensor:
    """Return targets as the network learns them."""
    mean, std = schema.scale
    if schema.log_target:
        y = y.log()
    return (y - mean) / std


def in_units(out: Tensor, schema: Schema) -> Tensor:
    """Return what a network says, in the target's own units."""
    mean, std = schema.scale
    numbers = out * std + mean
    return numbers.exp() if schema.log_target else numbers
