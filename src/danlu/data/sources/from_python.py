"""Examples that are in memory: arrays, texts, data frames, datasets, and what holds these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from danlu.data.inputs import Input, packed
from danlu.data.memmap import Array
from danlu.data.parts import PARTS, Sizes, in_order, part_of
from danlu.data.raw import Raw
from danlu.data.sources import arrays, frames, parquet, several_inputs, tagged, text
from danlu.data.sources.arrays import with_class_order
from danlu.data.sources.containers import arrow_table, is_array, is_dataset, unpack
from danlu.data.sources.options import Options, refuse_unused
from danlu.data.sources.running import language_model_text, refuse_for_running_text
from danlu.errors import DataError


def from_python(source: Any, options: Options, split: Any) -> Raw:
    """Return what `load` takes beside names and paths; split: of running text."""
    inner, notices, classes = unpack(source)
    raw = _read(inner, options, split)
    if classes and options.get("like") is None:
        raw = with_class_order(raw, classes)
    return replace(raw, notices=(*notices, *raw.notices))


def _read(source: Any, options: Options, split: Any) -> Raw:
    if isinstance(source, (list, tuple)) and source and all(isinstance(t, str) for t in source):
        refuse_for_running_text(options)
        return language_model_text({"all": list(source)}, "the text", options, split)
    if _are_sentences(source):
        return _tagged({"all": source}, options)
    if isinstance(source, Mapping) and source and all(map(_are_sentences, source.values())):
        return _tagged(_parts(source), options)
    tables = _arrow_tables(source)
    if tables:
        return parquet.from_arrow(tables, "the data", (), options, split)
    of_inputs = several_inputs.pairs_in(source)
    if of_inputs is not None:
        return _from_inputs(of_inputs if "all" in of_inputs else _parts(of_inputs), options)
    return _from_pairs(source, options, split)


def _from_pairs(source: Any, options: Options, split: Any) -> Raw:
    """Return tables and pairs (x, y), also by part."""
    if _is_table_of_columns(source):
        import pandas as pd

        return frames.from_frame(pd.DataFrame(source), "the table", options)
    if isinstance(source, Mapping):
        parts = _parts(source)
        if any(_is_frame(of) or _is_framed_pair(of) for of in parts.values()):
            return _from_frames(parts, options)
        return arrays.from_parts({part: _pair(of) for part, of in parts.items()}, options)
    if _is_framed_pair(source):
        return frames.from_frame(*_with_target(source[0], source[1], options))
    if _is_frame(source):
        return frames.from_frame(source, "the data frame", options)
    return arrays.from_parts({"all": _pair(source)}, options)


def _arrow_tables(source: Any) -> dict[str, Any] | None:
    """Return Arrow tables by part ("all" alone where there are none)."""
    if isinstance(source, Mapping):
        tables = {part: arrow_table(of) for part, of in source.items()}
        if not tables or any(table is None for table in tables.values()):
            return None
        return _parts(tables)
    table = arrow_table(source)
    return None if table is None else {"all": table}


def _from_frames(parts: Mapping[str, Any], options: Options) -> Raw:
    """Return the rows of data frames by part, each with its target or beside it."""
    import pandas as pd

    joined = []
    for part in in_order(parts):
        frame = parts[part]
        if not _is_frame(frame):
            frame, _, options = _with_target(*_framed(frame), options)
        joined.append(frame)
    sizes = {part: len(frame) for part, frame in zip(in_order(parts), joined, strict=True)}
    # After a round trip through a file, columns named by numbers are named by text.
    joined = [frame.rename(columns=str) for frame in joined]
    if any(set(frame.columns) != set(joined[0].columns) for frame in joined):
        raise DataError("the data frames of the parts have different columns; give them the same")
    rows = pd.concat(joined, ignore_index=True)
    own_sizes = Sizes(sizes.get("valid", 0), sizes.get("test", 0))
    return frames.from_frame(rows, "the data frames", options, own_sizes)


def _framed(pair: Any) -> tuple[Any, Any]:
    if not _is_framed_pair(pair):
        raise DataError("some parts are data frames and others are not; make all of them frames")
    x, y = pair
    return x, y


def _from_inputs(pairs: Mapping[str, tuple[Any, Any]], options: Options) -> Raw:
    """Return examples of several inputs, of (x, y) by part."""
    refuse_unused(options, ("task", "log_target"), "several inputs")
    order = in_order(pairs)
    sizes, rows, targets = {}, [], []
    inputs: tuple[Input, ...] = ()
    notices: tuple[str, ...] = ()
    for part in order:
        x, inputs = packed(pairs[part][0], inputs)
        y, notices = arrays.labels(arrays.as_array(pairs[part][1]))  # alike in every part
        if y.shape != (len(x),):
            raise DataError(
                f"the inputs have {len(x):,} examples, and y has the shape {y.shape}, but must be "
                f"({len(x)},)"
            )
        rows.append(x)
        targets.append(y)
        sizes[part] = len(x)
    y, schema, told = arrays.with_targets(arrays.joined(targets), options)
    joined = arrays.joined(rows)
    schema = replace(schema, input_shape=(joined.shape[1],), inputs=inputs)
    return Raw(
        joined,
        y,
        schema,
        official_test=sizes.get("test", 0),
        official_valid=sizes.get("valid", 0),
        notices=(*notices, *told),
    )


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


def _parts(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dictionary by part. Raises DataError unless its keys are names of parts."""
    named = {part_of(str(key)) or str(key): value for key, value in source.items()}
    if len(named) < len(source):
        raise DataError(
            f"the dictionary has the keys {sorted(map(str, source))}, of which two name one part; "
            "keep one of them"
        )
    if "train" not in named or set(named) - set(PARTS):
        raise DataError(
            f"the dictionary has the keys {sorted(map(str, source))}, but needs train, and may "
            "have valid and test"
        )
    return named


def _is_frame(source: Any) -> bool:
    return type(source).__module__.startswith("pandas") and hasattr(source, "columns")


def _is_framed_pair(source: Any) -> bool:
    return isinstance(source, (tuple, list)) and len(source) == 2 and _is_frame(source[0])


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
    if _is_frame(y):
        y = y.iloc[:, 0] if y.shape[1] == 1 else y.to_numpy()
    title = str(getattr(y, "name", None) or "target")
    if title in map(str, features.columns):
        raise DataError(
            f"the features have a column {title!r}, as the targets are called; rename one of them"
        )
    values = getattr(y, "to_numpy", lambda: arrays.labels(arrays.as_array(y))[0])()
    if len(values) != len(features):
        raise DataError(
            f"the data have {len(features)} examples, but {len(values)} labels; each example "
            "needs one"
        )
    return features.assign(**{title: values}), "the data frame", {**options, "target": title}


def _are_sentences(source: Any) -> bool:
    """Return whether it is sentences of tokens, and as many of tags; matched later."""
    if not isinstance(source, (list, tuple)) or len(source) != 2:
        return False
    if not all(isinstance(side, (list, tuple)) for side in source):
        return False
    return any(_is_row(row) and len(row) and isinstance(row[0], str) for row in source[0])


def _is_row(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1)


def _pair(source: Any) -> tuple[Array, Array]:
    """Return (x, y) of a pair, or of a PyTorch dataset by asking for each example once."""
    if isinstance(source, (tuple, list)) and len(source) == 2:
        return arrays.as_array(source[0]), arrays.as_array(source[1])
    if is_dataset(source) or isinstance(source, list):
        rows = [source[i] for i in range(len(source))]
        if rows and all(isinstance(row, (tuple, list)) and len(row) == 2 for row in rows):
            x, y = zip(*rows, strict=True)
            return arrays.stacked(x, "examples"), arrays.stacked(y, "targets")
    kind = type(source).__name__
    if is_array(source):
        raise DataError(f"`source` is one {kind}; give the targets as well, as (x, y)")
    if hasattr(source, "__next__"):
        raise DataError(f"`source` is a {kind}, which can be read once; give list(…) of it")
    raise DataError(
        f"`source` is a {kind}, but must be a name, a path, (x, y), a dictionary of parts, a data "
        "frame or a dataset of pairs"
    )
