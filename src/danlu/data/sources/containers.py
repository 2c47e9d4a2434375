"""What programs hold examples in: loaders, sets of other libraries, tuples of parts, unpacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from danlu.data.parts import part_of
from danlu.data.sources import formats
from danlu.data.sources.columns import TARGETS
from danlu.errors import DataError, some

_PARTS_IN_ORDER = {2: ("train", "test"), 3: ("train", "valid", "test")}
_WHOLE = ("SequentialSampler", "RandomSampler")  # samplers that give every example once


class Unpacked(NamedTuple):
    """Examples as `load` knows them, how they were found, and the classes in their own order."""

    source: Any
    notices: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def unpack(source: Any) -> Unpacked:
    """Return what a container holds; anything else as it is."""
    if _is_loader(source):
        inner, notices, classes = unpack(_dataset_of(source))
        notice = "the loader's dataset is read; batches are the recipe's"
        return Unpacked(inner, (*notices, notice), classes)
    if isinstance(source, Mapping):
        return _of_mapping(source)
    if isinstance(source, (tuple, list)) and source:
        return _of_sequence(source)
    if is_dataset(source) and len(source) and arrow_table(source) is None:
        return _of_examples(source)
    return Unpacked(source)


def _is_loader(source: Any) -> bool:
    """Return whether it is a PyTorch DataLoader, or a kind of it."""
    return any(base.__name__ == "DataLoader" for base in type(source).__mro__)


def _dataset_of(loader: Any) -> Any:
    """Return the examples of a loader. Raises DataError where it does more than to batch them."""
    from torch.utils.data import Subset, default_collate

    if loader.collate_fn is not default_collate:
        raise DataError(
            "the loader has a collate_fn of its own; pass a dataset whose examples are already as "
            "the network takes them"
        )
    sampler = type(loader.sampler).__name__
    if sampler == "SubsetRandomSampler":
        return Subset(loader.dataset, list(loader.sampler.indices))
    draws_again = getattr(loader.sampler, "replacement", False)
    if sampler not in _WHOLE or draws_again or loader.batch_size is None:
        raise DataError(
            f"the loader draws its batches by its own rule ({sampler}); pass its dataset, and say "
            "in the recipe how to draw, such as sample.balanced=true"
        )
    return loader.dataset


def _of_mapping(source: Mapping[Any, Any]) -> Unpacked:
    if {"data", "target", "target_names"} <= set(source):
        return _of_bunch(source)
    arrays = {str(name): value for name, value in source.items() if is_array(value)}
    roles = {formats.role_of_arrays(name) for name in arrays}
    if {"x", "y"} <= roles and any(array.ndim > 1 for array in arrays.values()):
        pairs, notices = formats.parts_of_arrays(arrays, "the dictionary")
        return Unpacked(pairs.get("all", pairs), tuple(notices))
    if source and all(part_of(str(part)) for part in source):
        return _each_unpacked(dict(source))
    return Unpacked(source)


def _each_unpacked(parts: Mapping[Any, Any]) -> Unpacked:
    found = {part: unpack(of_part) for part, of_part in parts.items()}
    notices = [notice for of_part in found.values() for notice in of_part.notices]
    inner = {part: of_part.source for part, of_part in found.items()}
    return Unpacked(inner, tuple(dict.fromkeys(notices)))


def _of_bunch(bunch: Mapping[str, Any]) -> Unpacked:
    """Return the features and targets of one of scikit-learn's sets, with its names."""
    import pandas as pd

    features, target = bunch["data"], bunch["target"]
    numbers = np.asarray(target)
    if hasattr(features, "toarray") or numbers.ndim != 1:
        return Unpacked((features, target))
    if not hasattr(features, "columns"):
        features = pd.DataFrame(np.asarray(features), columns=bunch.get("feature_names"))
    names = tuple(str(name) for name in bunch["target_names"])
    # Sets of OpenML give the name of the column here.
    are_classes = numbers.dtype.kind in "iu" and len(names) == len(np.unique(numbers))
    if are_classes and numbers.min() >= 0 and numbers.max() < len(names):
        y = pd.Series([names[k] for k in numbers], name="target")
        return Unpacked((features, y), classes=names)
    return Unpacked((features, pd.Series(numbers, name="target")))


def _of_sequence(source: Sequence[Any]) -> Unpacked:
    if isinstance(source, list) and all(isinstance(row, Mapping) for row in source):
        if any(is_array(cell) for cell in source[0].values()):
            return _of_examples(source)
        return Unpacked(formats.frame_of_records(source))
    if len(source) in _PARTS_IN_ORDER and _are_sets(source):
        return _by_part(list(source), "sets")
    if len(source) in (4, 6) and all(is_array(side) or _is_list(side) for side in source):
        pairs = _paired(source)
        if pairs:
            return _by_part(pairs, "arrays")
    if isinstance(source, list) and isinstance(source[0], tuple) and len(source[0]) > 2:
        return _of_examples(source)
    return Unpacked(source)


def _of_examples(source: Any) -> Unpacked:
    """Return (inputs, target) of each example, where these have names or are more than two."""
    first = source[0]
    if isinstance(first, Mapping):
        return _of_named_examples(source, [str(name) for name in first])
    if not isinstance(first, (tuple, list)) or len(first) < 3:
        return Unpacked(source)
    fields = len(first)
    whole = [k for k in range(fields) if np.ndim(first[k]) == 0 and _is_whole(first[k])]
    if whole and whole != [fields - 1]:
        raise DataError(
            f"the examples have {fields} fields, and which is the target is not clear; pass "
            "(inputs, target) pairs"
        )
    rows = [(tuple(row[:-1]), row[-1]) for row in _rows_of(source)]
    notice = f"of {fields} fields of an example the last is the target, the others are inputs"
    return Unpacked(rows, (notice,))


def _is_whole(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "biu"


def _of_named_examples(source: Any, names: list[str]) -> Unpacked:
    targets = [name for name in names if name.lower() in TARGETS or name.lower().endswith("label")]
    if not targets or len(names) == 1:
        return Unpacked(source)
    if len(targets) > 1:
        raise DataError(
            f"the examples have the fields {some(names, 8)}, and {some(targets)} may each be the "
            "target; pass (inputs, target) pairs"
        )
    (target,) = targets
    inputs = [name for name in names if name != target]
    rows = []
    for k, row in enumerate(_rows_of(source)):
        named = {str(name): value for name, value in row.items()}
        if set(named) != set(names):
            raise DataError(f"example {k} has the fields {some(named, 8)}, not {some(names, 8)}")
        x = named[inputs[0]] if len(inputs) == 1 else {name: named[name] for name in inputs}
        rows.append((x, named[target]))
    return Unpacked(rows, (f"the target is {target}; inputs: {some(inputs, 8)}",))


def _rows_of(source: Any) -> list[Any]:
    return [source[k] for k in range(len(source))]


def _by_part(sets: list[Any], what: str) -> Unpacked:
    names = _PARTS_IN_ORDER[len(sets)]
    found = _each_unpacked(dict(zip(names, sets, strict=True)))
    notice = (
        f"the {what} are taken as the parts {some(names)}, in this order; pass a dictionary such "
        "as {'train': …} to choose"
    )
    return Unpacked(found.source, (*found.notices, notice))


def _are_sets(source: Sequence[Any]) -> bool:
    """Return whether each is a set of its own: (x, y), a dataset, a loader or a data frame."""
    if all(hasattr(part, "columns") and hasattr(part, "iloc") for part in source):
        columns = [list(map(str, part.columns)) for part in source]
        return len(columns[0]) > 1 and all(own == columns[0] for own in columns)
    if not all(map(_is_set, source)):
        return False
    listed = [
        len(side) for part in source if isinstance(part, tuple) for side in part if _is_list(side)
    ]
    # Lists of one length may as well be the tokens and the tags of sentences.
    return len(listed) < 4 or len(set(listed)) > 1


def _is_set(part: Any) -> bool:
    if _is_loader(part) or _is_of_arrow(part):
        return True
    if is_dataset(part):
        return bool(len(part)) and isinstance(part[0], (tuple, list, Mapping))
    if not isinstance(part, (tuple, list)) or len(part) != 2:
        return False
    x, y = part
    # Of lists in a list nobody can tell whether they are tokens of a sentence.
    if not isinstance(part, tuple) and not (is_array(x) and is_array(y)):
        return False
    return _are_examples(x, y)


def _is_list(side: Any) -> bool:
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
    """Return whether x may be examples and y their targets: numbers [N, …] or texts, and [N]."""
    if not all(is_array(side) or _is_list(side) for side in (x, y)):
        return False
    if is_array(y):
        is_column = y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)
    else:
        is_column = np.ndim(y[0]) == 0
    are_texts = isinstance(_first(x), str)
    has_rows = x.ndim > 1 if is_array(x) else np.ndim(x[0]) > 0
    return _length(x) == _length(y) and is_column and (has_rows or are_texts)


def _first(x: Any) -> Any:
    if hasattr(x, "iloc"):
        return x.iloc[0]
    return x[0] if _length(x) and getattr(x, "ndim", 1) == 1 else None


def _length(x: Any) -> int:
    # Sparse matrices have no len.
    return int(x.shape[0]) if hasattr(x, "shape") else len(x)


def is_array(value: Any) -> bool:
    """Return whether it is an array, a tensor, a series or a frame, of one axis or more."""
    return bool(getattr(value, "shape", ())) and hasattr(value, "ndim")


def is_dataset(source: Any) -> bool:
    """Return whether it gives examples by their number, as PyTorch's datasets do."""
    if isinstance(source, (str, bytes, list, tuple, Mapping)) or hasattr(source, "shape"):
        return False
    return hasattr(source, "__getitem__") and hasattr(source, "__len__")


def arrow_table(source: Any) -> Any | None:
    """Return the Arrow table of a set of the hub's library, of Polars or of Arrow; else None."""
    if not _is_of_arrow(source):
        return None
    if hasattr(source, "with_format"):
        if not hasattr(source, "__len__"):
            raise DataError("`source` is a streamed dataset; load it whole, without streaming=True")
        if (source.format or {}).get("type") == "custom":
            raise DataError(
                "`source` changes its examples as they are read; apply it first, with map(…)"
            )
        return source.with_format("arrow")[:]
    return source.to_arrow() if hasattr(source, "to_arrow") else source


def _is_of_arrow(source: Any) -> bool:
    """Return whether it is a table of a library that keeps tables as Arrow does."""
    marks = {"datasets": "with_format", "polars": "columns", "pyarrow": "column_names"}
    mark = marks.get(type(source).__module__.partition(".")[0])
    return mark is not None and hasattr(source, mark)
