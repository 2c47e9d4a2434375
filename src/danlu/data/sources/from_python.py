"""Examples that are in memory: arrays, texts, data frames, PyTorch datasets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from danlu.data.column import Column
from danlu.data.inputs import Input, packed
from danlu.data.memmap import Array
from danlu.data.parts import PARTS, in_order, part_of
from danlu.data.raw import Encoded, Raw
from danlu.data.schema import Schema
from danlu.data.sources import frames, several_inputs, tagged, text
from danlu.data.sources.options import Options, refuse_unused
from danlu.data.sources.running import language_model_text, refuse_for_running_text
from danlu.data.tables.features import number_column
from danlu.data.tables.target import known_target, read_target
from danlu.errors import DataError

_CHANNELS = (1, 3, 4)  # of pictures [N, H, W, C]: what the last axis may be


def from_python(source: Any, options: Options, split: Any) -> Raw:
    """Return what `load` takes beside names and paths; split: of running text."""
    if isinstance(source, (list, tuple)) and source and all(isinstance(t, str) for t in source):
        refuse_for_running_text(options)
        return language_model_text({"all": list(source)}, "the text", options, split)
    if _are_sentences(source):
        return _tagged({"all": source}, options)
    if isinstance(source, dict) and source and all(map(_are_sentences, source.values())):
        return _tagged(_parts(source), options)
    of_inputs = several_inputs.pairs_in(source)
    if of_inputs is not None:
        return _from_inputs(of_inputs if "all" in of_inputs else _parts(of_inputs), options)
    if _is_table_of_columns(source):
        import pandas as pd

        return frames.from_frame(pd.DataFrame(source), "the table", options)
    if isinstance(source, dict):
        return from_parts({part: _pair(of) for part, of in _parts(source).items()}, options, split)
    if isinstance(source, (tuple, list)) and len(source) == 2 and _is_frame(source[0]):
        return frames.from_frame(*_with_target(source[0], source[1], options))
    if _is_frame(source):
        return frames.from_frame(source, "the data frame", options)
    return from_parts({"all": _pair(source)}, options, split)


def _from_inputs(pairs: Mapping[str, tuple[Any, Any]], options: Options) -> Raw:
    """Return examples of several inputs, of (x, y) by part."""
    refuse_unused(options, ("task", "log_target"), "several inputs")
    order = in_order(pairs)
    sizes, rows, targets = {}, [], []
    inputs: tuple[Input, ...] = ()
    for part in order:
        x, inputs = packed(pairs[part][0], inputs)
        y = _array(pairs[part][1])
        if y.shape != (len(x),):
            raise DataError(
                f"the inputs have {len(x):,} examples, and y has the shape {y.shape}, but must be "
                f"({len(x)},)"
            )
        rows.append(x)
        targets.append(y)
        sizes[part] = len(x)
    y, schema, notices = _with_targets(_joined(targets), options)
    joined = _joined(rows)
    schema = replace(schema, input_shape=(joined.shape[1],), inputs=inputs)
    return Raw(
        joined,
        y,
        schema,
        official_test=sizes.get("test", 0),
        official_valid=sizes.get("valid", 0),
        notices=notices,
    )


def from_parts(pairs: Mapping[str, tuple[Any, Any]], options: Options, split: Any) -> Raw:
    """Return the examples of (x, y) by part: "all", or train with valid and test."""
    order = in_order(pairs)
    x = _joined([pairs[part][0] for part in order])
    y = _joined([pairs[part][1] for part in order])
    sizes = {part: len(pairs[part][0]) for part in order}
    raw = _from_arrays(x, y, options)
    return replace(raw, official_test=sizes.get("test", 0), official_valid=sizes.get("valid", 0))


def _joined(arrays: list[Array]) -> Array:
    # A concatenation would copy what is alone, which may be mapped from disk.
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _tagged(parts: Mapping[str, Any], options: Options) -> Raw:
    refuse_unused(options, (*text.OPTIONS, "task", "tags"), "tagged text")
    tokens: list[Any] = []
    tags: list[Any] = []
    order = in_order(parts)
    for part in order:
        tokens += parts[part][0]
        tags += parts[part][1]
    sizes = {part: len(parts[part][0]) for part in order}
    return tagged.from_lists(tokens, tags, options, sizes.get("valid", 0), sizes.get("test", 0))


def _parts(source: dict[str, Any]) -> dict[str, Any]:
    """Return a dictionary by part. Raises DataError unless its keys are names of parts."""
    named = {part_of(str(key)) or str(key): value for key, value in source.items()}
    if "train" not in named or set(named) - set(PARTS):
        raise DataError(
            f"the dictionary has the keys {sorted(map(str, source))}, but needs train, and may "
            "have valid and test"
        )
    return named


def _is_frame(source: Any) -> bool:
    return type(source).__module__.startswith("pandas") and hasattr(source, "columns")


def _is_table_of_columns(source: Any) -> bool:
    """Whether a dictionary holds columns by name, each a list of cells."""
    if not isinstance(source, dict) or not source or any(part_of(str(key)) for key in source):
        return False
    cells = list(source.values())
    if not all(isinstance(c, (list, tuple)) or getattr(c, "ndim", 0) == 1 for c in cells):
        return False
    return len({len(c) for c in cells}) == 1


def _with_target(features: Any, y: Any, options: Options) -> tuple[Any, str, Options]:
    """Return a data frame of features as one with its targets, under a name of their own."""
    title = str(getattr(y, "name", None) or "target")
    if title in map(str, features.columns):
        raise DataError(
            f"the features have a column {title!r}, as the targets are called; rename one of them"
        )
    values = getattr(y, "to_numpy", lambda: _array(y))()
    if len(values) != len(features):
        raise DataError(
            f"the data have {len(features)} examples, but {len(values)} labels; each example "
            "needs one"
        )
    return features.assign(**{title: values}), "the data frame", {**options, "target": title}


def _are_sentences(source: Any) -> bool:
    """Whether it is sentences of tokens, and as many of tags; their rights are looked at later."""
    if not isinstance(source, (list, tuple)) or len(source) != 2:
        return False
    if not all(isinstance(side, (list, tuple)) for side in source):
        return False
    return any(_is_row(row) and len(row) and isinstance(row[0], str) for row in source[0])


def _is_row(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1)


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


def _pair(source: Any) -> tuple[Array, Array]:
    """Return (x, y) of a pair, or of a PyTorch dataset by asking for each example once."""
    if isinstance(source, (tuple, list)) and len(source) == 2:
        return _array(source[0]), _array(source[1])
    if hasattr(source, "__getitem__") and hasattr(source, "__len__") and len(source):
        rows = [source[i] for i in range(len(source))]
        if all(isinstance(row, (tuple, list)) and len(row) == 2 for row in rows):
            return _stacked(rows)
    kind = type(source).__name__
    raise DataError(
        f"`source` is a {kind}, but must be a name, a path, (x, y), a dictionary of parts, a data "
        "frame or a dataset of pairs"
    )


def _stacked(rows: list[Any]) -> tuple[Array, Array]:
    shapes = {np.shape(_array(row[0])) for row in rows}
    if len(shapes) > 1:
        raise DataError(f"the examples have {len(shapes)} shapes, but must all have one")
    x = np.stack([_array(row[0]) for row in rows])
    y = np.array([_array(row[1]) for row in rows]).reshape(len(rows))
    return x, y


def _array(value: Any) -> Array:
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()  # type: ignore[no-any-return]
    try:
        return value if isinstance(value, np.ndarray) else np.asarray(value)
    except ValueError as e:
        raise DataError("the examples have several shapes, but must all have one") from e


def _wrap(x: Array, y: Array, options: Options) -> Raw:
    """Return arrays as examples: tables [N, F], pictures [N, H, W] or with channels C anywhere."""
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
    y, schema, told = _with_targets(y, options)
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


def _with_targets(y: Array, options: Options) -> tuple[Array, Schema, tuple[str, ...]]:
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
