"""Examples of several inputs, as programs hold them: arrays by name, or in a tuple."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from danlu.data.inputs import are_inputs
from danlu.data.parts import part_of
from danlu.data.sources.columns import TARGETS, first_named
from danlu.data.sources.containers import is_dataset
from danlu.errors import DataError

Pairs = dict[str, tuple[Any, Any]]


def pairs_in(source: Any) -> Pairs | None:
    """Return (inputs, targets) by part ("all" where there are none); None for other sources.

    source: (x, y) where x is a dictionary of arrays by name or a tuple of arrays, a dictionary of
    such pairs by part, or a PyTorch dataset whose examples are such pairs.
    """
    if isinstance(source, Mapping):
        if not source or not all(map(part_of, map(str, source))):
            return None
        pairs = {}
        for part, of_part in source.items():
            found = pairs_in(of_part)
            if found is None:
                return None
            pairs[str(part)] = found["all"]
        return pairs
    if _is_pair(source):
        return {"all": tuple(source)}
    is_listed = isinstance(source, list) and bool(source) and isinstance(source[0], Mapping)
    if is_listed or (is_dataset(source) and len(source)):
        return _of_dataset(source)
    return None


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and are_inputs(value[0])


def _of_dataset(source: Any) -> Pairs | None:
    """Return the examples of a dataset, each asked for once, as arrays of each input."""
    parted = _parted(source[0])
    if parted is None or not _is_example(parted(source[0])[0]):
        return None
    rows = [parted(source[i]) for i in range(len(source))]
    first, _ = rows[0]
    names = list(first) if isinstance(first, Mapping) else range(len(first))
    try:
        y = np.array([np.asarray(target) for _, target in rows])
        stacked = {name: np.stack([np.asarray(x[name]) for x, _ in rows]) for name in names}
    except (ValueError, KeyError, IndexError) as e:
        raise DataError(
            "the examples have several shapes or lack an input, but all must have the same"
        ) from e
    x = stacked if isinstance(first, Mapping) else tuple(stacked.values())
    return {"all": (x, y)}


def _parted(row: Any) -> Callable[[Any], tuple[Any, Any]] | None:
    """Return how a row of a dataset falls into inputs and target; None for other rows."""
    if isinstance(row, Mapping):
        target = first_named(row, TARGETS)
        if target is None or len(row) < 2:
            return None
        return lambda r: ({name: value for name, value in r.items() if name != target}, r[target])
    if not isinstance(row, (tuple, list)) or len(row) < 2:
        return None
    if len(row) == 2:
        return lambda r: (r[0], r[1])
    # As PyTorch's TensorDataset(a, b, y) holds them: the target last.
    return lambda r: (tuple(r[:-1]), r[-1])


def _is_example(x: Any) -> bool:
    """Whether x is the inputs of one example: numbers or arrays by name, or a tuple of them."""
    if isinstance(x, Mapping):
        return bool(x)
    return isinstance(x, tuple) and len(x) > 1 and all(hasattr(part, "shape") for part in x)
