"""What programs hold examples in: loaders, sets of other libraries, tuples of parts, unpacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from danlu.data.parts import part_of
from danlu.data.sources import formats
from danlu.data.sources.columns import TARGETS, first_named
from danlu.errors import DataError, some

_PARTS_IN_ORDER = {2: ("train", "test"), 3: ("train", "valid", "test")}


class Unpacked(NamedTuple):
    """Examples as `load` knows them, and what is to be said of how they were found."""

    source: Any
    notices: tuple[str, ...] = ()


def unpacked(source: Any) -> Unpacked:
    """Return what a container holds; anything else as it is."""
    if _is_loader(source):
        inner, notices = unpacked(source.dataset)
        return Unpacked(inner, (*notices, "the loader's dataset is read; batches are the recipe's"))
    if isinstance(source, Mapping):
        return _of_mapping(source)
    if isinstance(source, (tuple, list)) and source:
        return _of_sequence(source)
    if is_dataset(source) and len(source) and arrow_table(source) is None:
        return Unpacked(_of_named_examples(source))
    return Unpacked(source)


def _is_loader(source: Any) -> bool:
    """Whether it is a PyTorch DataLoader, or one like it."""
    return hasattr(source, "dataset") and hasattr(source, "batch_size")


def _of_mapping(source: Mapping[Any, Any]) -> Unpacked:
    if {"data", "target", "target_names"} <= set(source):
        return Unpacked(_of_bunch(source))
    arrays = {str(name): value for name, value in source.items() if is_array(value)}
    roles = {formats.role_of_arrays(name) for name in arrays}
    if {"x", "y"} <= roles and any(array.ndim > 1 for array in arrays.values()):
        pairs, notices = formats.parts_of_arrays(arrays, "the dictionary")
        return Unpacked(pairs.get("all", pairs), tuple(notices))
    if source and all(part_of(str(part)) for part in source):
        parts = {part: unpacked(of_part) for part, of_part in source.items()}
        said = [notice for _, notices in parts.values() for notice in notices]
        inner = {part: of_part.source for part, of_part in parts.items()}
        return Unpacked(inner, tuple(dict.fromkeys(said)))
    return Unpacked(source)


def _of_bunch(bunch: Mapping[str, Any]) -> Any:
    """Return (features, targets) of one of scikit-learn's sets, with its names."""
    import numpy as np
    import pandas as pd

    features, target = bunch["data"], bunch["target"]
    if hasattr(features, "toarray"):
        return features, target
    if not hasattr(features, "columns"):
        features = pd.DataFrame(np.asarray(features), columns=bunch.get("feature_names"))
    numbers = np.asarray(target)
    names = [str(name) for name in bunch["target_names"]]
    # Sets of OpenML give the name of the column here.
    are_classes = numbers.dtype.kind in "iu" and len(names) == len(np.unique(numbers))
    if are_classes and numbers.min() >= 0 and numbers.max() < len(names):
        return features, pd.Series([names[k] for k in numbers], name="target")
    return features, pd.Series(numbers, name="target")


def _of_sequence(source: Sequence[Any]) -> Unpacked:
    if isinstance(source, list) and all(isinstance(row, Mapping) for row in source):
        if not any(is_array(cell) for cell in source[0].values()):
            return Unpacked(formats.frame_of_records(source))
        return Unpacked(_of_named_examples(source))
    if len(source) in _PARTS_IN_ORDER and all(_is_set(part) for part in source):
        return _by_part(list(source), "sets")
    if len(source) in (4, 6) and all(is_array(array) for array in source):
        pairs = _paired(source)
        if pairs:
            return _by_part(pairs, "arrays")
    return Unpacked(source)


def _of_named_examples(source: Any) -> Any:
    """Return (x, y) of each example of a dataset whose examples have two fields by name."""
    first = source[0]
    if not isinstance(first, Mapping) or len(first) != 2:
        return source
    target = first_named(first, TARGETS)
    if target is None:
        return source
    (field,) = set(first) - {target}
    rows = [source[k] for k in range(len(source))]
    return [(row[field], row[target]) for row in rows]


def _by_part(sets: list[Any], what: str) -> Unpacked:
    names = _PARTS_IN_ORDER[len(sets)]
    parts = {name: unpacked(of_part) for name, of_part in zip(names, sets, strict=True)}
    said = [notice for _, notices in parts.values() for notice in notices]
    said.append(
        f"the {what} are taken as the parts {some(names)}, in this order; a dictionary by part "
        "says otherwise"
    )
    inner = {name: of_part.source for name, of_part in parts.items()}
    return Unpacked(inner, tuple(dict.fromkeys(said)))


def _is_set(part: Any) -> bool:
    """Whether it is a set of its own: (x, y), a dataset or a loader."""
    if _is_loader(part) or is_dataset(part):
        return True
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        return False
    x, y = part
    # Of lists in a list nobody can tell whether they are tokens of a sentence.
    if not all(is_array(side) or (isinstance(part, tuple) and _is_listed(side)) for side in part):
        return False
    return len(x) == len(y)


def _is_listed(side: Any) -> bool:
    return isinstance(side, list) and bool(side)


def _paired(arrays: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return (x, y) pairs of arrays in a row: as train_test_split gives them, or pair by pair."""
    half = len(arrays) // 2
    orders = [
        [(arrays[k], arrays[half + k]) for k in range(half)],
        [(arrays[2 * k], arrays[2 * k + 1]) for k in range(half)],
    ]
    fitting = [pairs for pairs in orders if all(_are_examples(x, y) for x, y in pairs)]
    return fitting[0] if len(fitting) == 1 else []


def _are_examples(x: Any, y: Any) -> bool:
    is_column = y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)
    return len(x) == len(y) and x.ndim > 1 and is_column


def is_array(value: Any) -> bool:
    """Whether it is an array, a tensor, a series or a frame, of one axis or more."""
    return bool(getattr(value, "shape", ())) and hasattr(value, "ndim")


def is_dataset(source: Any) -> bool:
    """Whether it gives examples by their number, as PyTorch's datasets do."""
    if isinstance(source, (str, bytes, list, tuple, Mapping)) or hasattr(source, "shape"):
        return False
    return hasattr(source, "__getitem__") and hasattr(source, "__len__")


def arrow_table(source: Any) -> Any | None:
    """Return the Arrow table of a set of the hub's library, of Polars or of Arrow; else None."""
    module = type(source).__module__.partition(".")[0]
    if module == "datasets" and hasattr(source, "with_format"):
        if not hasattr(source, "__len__"):
            raise DataError("`source` is a streamed dataset, but must be loaded; load it whole")
        return source.with_format("arrow")[:]
    if module == "polars" and hasattr(source, "to_arrow"):
        return source.to_arrow()
    return source if module == "pyarrow" and hasattr(source, "column_names") else None
