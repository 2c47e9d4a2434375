"""What a step of a network costs, from the layers' sizes."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from danlu.data import Schema
from danlu.models.summary import summarise
from danlu.recipe.build import outline
from danlu.recipe.sections import Model


class NetworkCost(NamedTuple):
    """Of one example: multiply-adds, and values that layers give."""

    multiply_adds: int
    values: int


@functools.lru_cache(maxsize=256)
def network_cost(model: Model, schema: Schema) -> NetworkCost:
    """Return the cost of one example for a network of the zoo.

    Raises ModelError where the network does not fit the examples.
    """
    multiply_adds = 0
    values = 0
    for layer in summarise(outline(model, schema), schema.input_shape):
        multiply_adds += layer.multiply_adds
        values += math.prod(layer.output)
    return NetworkCost(multiply_adds, values)
