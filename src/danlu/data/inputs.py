"""Examples of several inputs: side by side in one row, and apart again for the network.

Legend: N examples, F values of all inputs together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from danlu.errors import DataError, some

Array = NDArray[Any]

_EXACT = 1 << 24  # whole numbers that float32 holds exactly


@dataclass(frozen=True)
class Input:
    """One input of an example: its name (None: known by its place), shape, and whether it is whole.

    Whole numbers, such as numbers of words, are not scaled, and reach the network as integers.
    """

    name: str | None
    shape: tuple[int, ...]
    whole: bool

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


def are_inputs(x: Any) -> bool:
    """Whether x is several inputs: arrays by name, or a tuple of arrays."""
    if isinstance(x, Mapping):
        return bool(x) and all(isinstance(name, str) for name in x)
    if not isinstance(x, tuple) or len(x) < 2:
        return False
    return all(hasattr(part, "shape") and len(part.shape) for part in x)


def packed(x: Any, inputs: Sequence[Input] = ()) -> tuple[Array, tuple[Input, ...]]:
    """Return inputs as one array [N, F] of float32, and what they are.

    inputs: what they have to be. Raises DataError for inputs of other names, shapes or lengths.
    """
    named = dict(x) if isinstance(x, Mapping) else dict(enumerate(x))
    if inputs:
        named = _in_order(named, inputs)
    arrays = {name: _array(name, value) for name, value in named.items()}
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {n:,}" for name, n in sizes.items())
        raise DataError(f"the inputs have different numbers of examples: {listed}")
    found = []
    for name, array in arrays.items():
        known = name if isinstance(name, str) else None
        # Bytes are pixels, not numbers of something.
        whole = array.dtype.kind in "iu" and array.dtype != np.uint8
        found.append(Input(known, tuple(array.shape[1:]), whole))
    if inputs and [i.shape for i in found] != [i.shape for i in inputs]:
        shapes = some([f"{i.name or k}: {i.shape}" for k, i in enumerate(inputs)], 8)
        raise DataError(f"the inputs must have the shapes {shapes}")
    rows = [array.reshape(len(array), -1).astype(np.float32) for array in arrays.values()]
    return np.concatenate(rows, 1), tuple(inputs) or tuple(found)


def _in_order(named: dict[Any, Any], inputs: Sequence[Input]) -> dict[Any, Any]:
    names = [i.name if i.name is not None else k for k, i in enumerate(inputs)]
    missing = [name for name in names if name not in named]
    if missing:
        raise DataError(f"the inputs lack {some(missing)}; there are {some(named, 8)}")
    return {name: named[name] for name in names}


def _array(name: Any, value: Any) -> Array:
    array: Array = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise DataError(
            f"input {name} has the type {array.dtype} and the shape {array.shape}, but must be "
            "numbers [N, …]"
        )
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise DataError(f"input {name} holds NaN or infinite values; correct or leave them out")
    elif array.size and np.abs(array.astype(np.int64)).max() > _EXACT:
        raise DataError(f"input {name} holds whole numbers above {_EXACT:,}; give them as floats")
    return array


def unpacked(x: Tensor, inputs: Sequence[Input]) -> list[Tensor]:
    """Return the inputs of a batch [B, F] apart, in their own shapes and kinds of number."""
    parts = []
    for part, columns in zip(inputs, x.split([i.size for i in inputs], 1), strict=True):
        own = columns.unflatten(1, part.shape)
        parts.append(own.round().to(torch.int64) if part.whole else own)
    return parts
