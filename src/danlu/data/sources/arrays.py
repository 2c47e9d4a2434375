"""Arrays (x, y) as examples: tables of numbers, pictures, texts with labels, pairs of texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.data.column import Column
from danlu.data.memmap import Array
from danlu.data.parts import Sizes, in_order
from danlu.data.raw import Encoded, Raw
from danlu.data.reading_memory import check_fits
from danlu.data.schema import Schema
from danlu.data.sources import frames, text
from danlu.data.sources.formats import as_labels
from danlu.data.sources.options import Options, refuse_unused
from danlu.data.tables.features import number_column
from danlu.data.tables.target import known_target, read_target
from danlu.errors import DataError, some

_CHANNELS = (1, 3, 4)  # of pictures [N, H, W, C]: what the last axis may be


def from_parts(pairs: Mapping[str, tuple[Any, Any]], options: Options) -> Raw:
    """Return the examples of (x, y) by part: "all", or train with valid and test."""
    order = in_order(pairs)
    for part in order:
        for name, array in zip(("x", "y"), pairs[part], strict=True):
            if not array.ndim:
                what = type(array.item()).__name__
                raise DataError(f"{name} is a {what}, but must be an array, a list or a tensor")
    x = joined([pairs[part][0] for part in order])
    y, notices = labels(joined([pairs[part][1] for part in order]))
    sizes = {part: len(pairs[part][0]) for part in order}
    n_valid, n_test = sizes.get("valid", 0), sizes.get("test", 0)
    if x.ndim == 2 and x.dtype.kind in "OUS" and len(x) == len(y):
        # Numbers and words side by side, as a frame's values are.
        rows, told = _frame_of(x, y, options)
        raw = frames.from_frame(rows, "the data", told, Sizes(n_valid, n_test))
        return replace(raw, notices=(*notices, *raw.notices))
    raw = _from_arrays(x, y, options)
    notices = (*notices, *raw.notices)
    return replace(raw, official_test=n_test, official_valid=n_valid, notices=notices)


def _frame_of(x: Array, y: Array, options: Options) -> tuple[Any, Options]:
    import pandas as pd

    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])]).infer_objects()
    return frame.assign(y=y), {**options, "target": "y"}


def labels(y: Array) -> tuple[Array, tuple[str, ...]]:
    """Return targets [N] of a column [N, 1] or of one-hot rows [N, K], and what is to be said.

    Raises DataError for several targets of each example.
    """
    if y.ndim != 2:
        return y, ()
    found = as_labels(y)
    if found.ndim == 1:
        notice = f"y of {y.shape[1]} columns is one-hot: each row is taken as the class it marks"
        return found, () if 1 in y.shape else (notice,)
    raise DataError(
        f"y has the shape {y.shape}, but each example needs one target; choose a column, such as "
        "y[:, 0]"
    )


def as_array(value: Any) -> Array:
    """Return a tensor, a sparse matrix or a list as an array."""
    if isinstance(value, Tensor):
        whole = value.detach().cpu()
        whole = whole.to_dense() if whole.layout != torch.strided else whole
        # NumPy has no bfloat16.
        return whole.float().numpy() if whole.dtype == torch.bfloat16 else whole.numpy()
    if hasattr(value, "toarray"):
        return dense(value)
    try:
        return value if isinstance(value, np.ndarray) else np.asarray(value)
    except ValueError as e:
        raise DataError("the examples have several shapes, but must all have one") from e


def stacked(rows: Sequence[Any], what: str) -> Array:
    """Return what each example holds as one array [N, …]; what: its name, for errors."""
    values = [as_array(row) for row in rows]
    shapes = dict.fromkeys(str(value.shape) for value in values)
    if len(shapes) > 1:
        raise DataError(f"the {what} have several shapes, {some(shapes, 3)}, but must all have one")
    return np.stack(values)


def dense(matrix: Any) -> Array:
    """Return one of SciPy's sparse matrices as an array. Raises DataError above this memory."""
    size = math.prod(matrix.shape) * matrix.dtype.itemsize
    shape = " × ".join(map(str, matrix.shape))
    check_fits(size, f"the sparse matrix of {shape}, its zeros stored,")
    return matrix.toarray()  # type: ignore[no-any-return]


def with_class_order(raw: Raw, names: tuple[str, ...]) -> Raw:
    """Return the same examples with their classes in that order, where they are these."""
    found = raw.schema.classes
    if set(found) != set(names):
        return raw
    place = np.array([names.index(name) for name in found])
    encode = raw.encode

    def in_order(train: Array) -> Encoded:
        assert encode is not None  # only used where there is one
        encoded = encode(train)
        schema = replace(encoded.schema, classes=names)
        return encoded._replace(y=place[encoded.y], schema=schema)

    return replace(
        raw,
        y=place[raw.y],
        schema=replace(raw.schema, classes=names),
        encode=None if encode is None else in_order,
    )


def joined(arrays: list[Array]) -> Array:
    """Return arrays in a row, [N, …]."""
    # A concatenation would copy what is alone, which may be mapped from disk.
    if len(arrays) == 1:
        return arrays[0]
    try:
        return np.concatenate(arrays)
    except ValueError as e:
        shapes = some((str(array.shape) for array in arrays), 3)
        raise DataError(f"the parts have the shapes {shapes}, but must differ in N alone") from e


def _from_arrays(x: Array, y: Array, options: Options) -> Raw:
    are_texts = x.ndim == 1 and x.dtype.kind in "UO" and all(isinstance(t, str) for t in x.tolist())
    if are_texts and y.ndim == 1:
        return _from_texts(x.tolist(), y.tolist(), options)
    refuse_unused(options, ("task", "log_target"), "arrays")
    return _wrap(x, y, options)


def _from_texts(texts: list[str], labels: list[Any], options: Options) -> Raw:
    if options["task"] != "pairs" and not frames.asks_pairs(options):
        refuse_unused(options, (*text.OPTIONS, "task"), "texts with labels")
        return text.labelled(texts, [str(label) for label in labels], "the data", options)
    refuse_unused(options, (*text.OPTIONS, "task"), "pairs of texts")
    if len(texts) != len(labels) or not all(isinstance(target, str) for target in labels):
        raise DataError(
            "pairs need as many targets as sources, all of them texts; correct or leave out what "
            "is not"
        )
    return text.paired(list(zip(texts, labels, strict=True)), "the data", options)


def _wrap(x: Array, y: Array, options: Options) -> Raw:
    """Return arrays as examples: tables [N, F], pictures [N, H, W] or with channels C anywhere."""
    x = x[:, None] if x.ndim == 1 and x.dtype.kind in "buif" else x
    if x.ndim not in (2, 3, 4) or y.ndim != 1:
        raise DataError(
            f"x has shape {x.shape} and y {y.shape}, but x must be [N, F], [N, H, W], [N, C, H, W] "
            "or [N, H, W, C] and y must be [N]"
        )
    if x.dtype.kind not in "buif" or y.dtype.kind not in "buifUSO":
        raise DataError(
            f"x has the type {x.dtype} and y {y.dtype}, but both must be numbers (labels may be "
            "text)"
        )
    if len(x) != len(y):
        raise DataError(
            f"the data have {len(x)} examples, but {len(y)} labels; each example needs one"
        )
    x, notices = _channels_first(x)
    y, schema, told = with_targets(y, options)
    if x.ndim == 2:
        return _table(x, y, schema, (*notices, *told))
    x = x if x.dtype in (np.uint8, np.float32) else x.astype(np.float32)
    mode = {1: "L", 3: "RGB"}.get(x.shape[1])
    schema = replace(schema, input_shape=tuple(x.shape[1:]), mode=mode)
    return Raw(x, y, schema, notices=(*notices, *told))


def _channels_first(x: Array) -> tuple[Array, tuple[str, ...]]:
    """Return pictures as [N, C, H, W]."""
    if x.ndim == 3:
        return x[:, None], ()
    if x.ndim != 4 or x.shape[1] in _CHANNELS or x.shape[3] not in _CHANNELS:
        return x, ()
    shape = "×".join(map(str, x.shape))
    notice = f"pictures of {shape} are read as [N, H, W, C], the channels last"
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), (notice,)


def with_targets(y: Array, options: Options) -> tuple[Array, Schema, tuple[str, ...]]:
    """Return targets [N] as classes or numbers, their schema, and what is to be said."""
    import pandas as pd

    values = pd.Series(y, name="y")
    like = options.get("like")
    if like is not None:
        found = known_target(values, like.classes, like.target_style)
    else:
        found = read_target(values, options["task"], "the data")
    if not found.is_there.all():
        row = int(np.flatnonzero(~found.is_there)[0])
        raise DataError(
            f"the target of example {row} is {y[row]}, but must be a finite number or a class"
        )
    task: Any = "classification" if found.classes else "regression"
    schema = Schema(task, (1,), found.classes, log_target=bool(options.get("log_target")))
    return found.y, schema, found.notices


def _table(x: Array, y: Array, schema: Schema, notices: tuple[str, ...]) -> Raw:
    """Return rows of numbers; what float32 would lose of them is taken out by the training part."""
    width = x.shape[1]
    if x.dtype == np.float32 or x.dtype.itemsize <= 2:
        columns = tuple(Column(f"x{i}") for i in range(width))
        exact = replace(schema, input_shape=(width,), columns=columns)
        return Raw(x.astype(np.float32, copy=False), y, exact, notices=notices)
    numbers = x.astype(np.float64, copy=False)

    def encode(train: Array) -> Encoded:
        columns = tuple(number_column(f"x{i}", numbers[train, i]) for i in range(width))
        shift = np.array([column.shift for column in columns])
        scale = np.array([column.scale for column in columns])
        kept = ((numbers - shift) / scale).astype(np.float32)
        return Encoded(kept, y, replace(schema, input_shape=(width,), columns=columns))

    placeholder = replace(schema, input_shape=(width,))
    return Raw(numbers, y, placeholder, notices=notices, encode=encode)
