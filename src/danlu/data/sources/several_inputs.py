"""Examples of several inputs, as programs hold them: arrays by name, or in a tuple."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danlu.data.inputs import are_inputs
from danlu.data.parts import part_of
from danlu.data.sources.arrays import stacked
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
            if found is None or "all" not in found:
                return None
            pairs[str(part)] = found["all"]
        return pairs
    if _is_pair(source):
        return {"all": tuple(source)}
    if (isinstance(source, list) or is_dataset(source)) and len(source):
        return _of_dataset(source)
    return None


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and are_inputs(value[0])


def _of_dataset(source: Any) -> Pairs | None:
    """Return the examples of a dataset, each asked for once, as arrays of each input."""
    first = source[0]
    if not isinstance(first, (tuple, list)) or len(first) != 2 or not _is_example(first[0]):
        return None
    rows = [source[i] for i in range(len(source))]
    is_named = isinstance(first[0], Mapping)
    names = list(first[0]) if is_named else list(range(len(first[0])))
    inputs = {}
    for name in names:
        try:
            values = [row[0][name] for row in rows]
        except (KeyError, IndexError) as e:
            raise DataError(f"some examples lack the input {name!r}; give all of them it") from e
        inputs[name] = stacked(values, f"examples' inputs {name!r}")
    y = stacked([row[1] for row in rows], "targets")
    return {"all": (inputs if is_named else tuple(inputs.values()), y)}


def _is_example(x: Any) -> bool:
    """Return whether x is the inputs of an example: numbers or arrays by name, or a tuple."""
    if isinstance(x, Mapping):
        return bool(x)
    return isinstance(x, tuple) and len(x) > 1 and all(hasattr(part, "shape") for part in x)
