"""Examples that are in memory: arrays, texts, data frames, PyTorch datasets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from danlu.data.memmap import Array
from danlu.data.parts import PARTS, in_order
from danlu.data.raw import Raw
from danlu.data.schema import Column, Schema
from danlu.data.sources import records, tagged, text
from danlu.data.sources.options import refuse_unused
from danlu.errors import DataError


def from_python(source: Any, options: dict[str, Any], split: Any) -> Raw:
    """What `load` takes beside names and paths; split: of running text."""
    if isinstance(source, (list, tuple)) and source and all(isinstance(t, str) for t in source):
        refuse_unused(options, text.RUNNING, "running text")
        return text.language_model_text({"all": list(source)}, "the text", options, split)
    if _are_sentences(source):
        refuse_unused(options, text.OPTIONS, "tagged text")
        return tagged.from_lists(source[0], source[1], options)
    if (
        isinstance(source, dict)
        and source
        and all(_are_sentences(pair) for pair in source.values())
    ):
        refuse_unused(options, text.OPTIONS, "tagged text")
        order = in_order(_parts(source))
        tokens, tags = ([row for p in order for row in source[p][i]] for i in (0, 1))
        sizes = {p: len(source[p][0]) for p in order}
        return tagged.from_lists(tokens, tags, options, sizes.get("valid", 0), sizes.get("test", 0))
    if isinstance(source, dict):
        order = in_order(_parts(source))
        pairs = [_pair(source[p]) for p in order]
        x, y = (np.concatenate([p[i] for p in pairs]) for i in (0, 1))
        sizes = {p: len(pair[0]) for p, pair in zip(order, pairs, strict=True)}
        return replace(
            _from_arrays(x, y, options),
            official_test=sizes.get("test", 0),
            official_valid=sizes.get("valid", 0),
        )
    if type(source).__module__.startswith("pandas"):
        return records.from_frame(source, "the data frame", options)
    return _from_arrays(*_pair(source), options)


def _parts(source: dict[str, Any]) -> dict[str, Any]:
    """The dictionary itself. Raises DataError unless its keys are names of parts."""
    if "train" not in source or set(source) - set(PARTS):
        raise DataError(
            f"the dictionary has the keys {sorted(source)}, but needs train, and may have valid and test"
        )
    return source


def _are_sentences(source: Any) -> bool:
    """Whether it is sentences of tokens, and as many of tags; whether they are right is looked at later."""
    pair = (
        isinstance(source, (list, tuple))
        and len(source) == 2
        and all(isinstance(s, (list, tuple)) for s in source)
    )
    return pair and any(_is_row(row) and len(row) and isinstance(row[0], str) for row in source[0])


def _is_row(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1)


def _from_arrays(x: Array, y: Array, options: dict[str, Any]) -> Raw:
    if (
        x.ndim == y.ndim == 1
        and x.dtype.kind in "UO"
        and all(isinstance(t, str) for t in x.tolist())
    ):
        if options["task"] == "pairs" or records.asks_pairs(options):
            refuse_unused(options, (*text.OPTIONS, "task"), "pairs of texts")
            sources, targets = x.tolist(), y.tolist()
            if len(sources) != len(targets) or not all(isinstance(t, str) for t in targets):
                raise DataError(
                    "pairs need as many targets as sources, all of them texts; correct or leave out what is not"
                )
            return text.paired(list(zip(sources, targets, strict=True)), "the data", options)
        refuse_unused(options, text.OPTIONS, "texts with labels")
        return text.labelled(x.tolist(), [str(k) for k in y.tolist()], "the data", options)
    refuse_unused(options, ("task",), "arrays")
    return _wrap(x, y, options["task"])


def _pair(source: Any) -> tuple[Array, Array]:
    """(x, y) as arrays from a pair, or from a PyTorch dataset by asking for each example once."""
    if isinstance(source, (tuple, list)) and len(source) == 2:
        return _array(source[0]), _array(source[1])
    if hasattr(source, "__getitem__") and hasattr(source, "__len__") and len(source):
        rows = [source[i] for i in range(len(source))]
        if all(isinstance(r, (tuple, list)) and len(r) == 2 for r in rows):
            shapes = {np.shape(_array(r[0])) for r in rows}
            if len(shapes) > 1:
                raise DataError(f"the examples have {len(shapes)} shapes, but must all have one")
            return np.stack([_array(r[0]) for r in rows]), np.array(
                [_array(r[1]) for r in rows]
            ).reshape(len(rows))
    kind = type(source).__name__
    raise DataError(
        f"`source` is a {kind}, but must be a name, a path, (x, y), a dictionary of parts or a dataset of pairs"
    )


def _array(value: Any) -> Array:
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()  # type: ignore[no-any-return]
    try:
        return value if isinstance(value, np.ndarray) else np.asarray(value)
    except ValueError as e:
        raise DataError("the examples have several shapes, but must all have one") from e


def _wrap(x: Array, y: Array, task: str | None) -> Raw:
    """Arrays as examples: [N, F] tables, [N, H, W] and [N, C, H, W] pictures."""
    if x.ndim not in (2, 3, 4) or y.ndim != 1:
        raise DataError(
            f"x has shape {x.shape} and y {y.shape}, but x must be [N, F], [N, H, W] or [N, C, H, W] and y must be [N]"
        )
    if x.dtype.kind not in "buif" or (y.dtype.kind not in "buifUSO"):
        raise DataError(
            f"x has the type {x.dtype} and y {y.dtype}, but both must be numbers (labels may be text)"
        )
    x = x[:, None] if x.ndim == 3 else x
    x = x if x.dtype in (np.uint8, np.float32) else x.astype(np.float32)
    columns = tuple(Column(f"x{i}") for i in range(x.shape[1])) if x.ndim == 2 else ()
    image_mode = {1: "L", 3: "RGB"}.get(x.shape[1]) if x.ndim == 4 else None
    if y.dtype.kind in "USO":
        names, index = np.unique(y.astype(str), return_inverse=True)
        return Raw(
            x,
            index.astype(np.int64),
            Schema("classification", x.shape[1:], tuple(names.tolist()), image_mode, columns),
        )
    if task == "regression" or (task is None and y.dtype.kind == "f"):
        return Raw(
            x, y.astype(np.float64), Schema("regression", x.shape[1:], (), image_mode, columns)
        )
    if y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.round(y)).all()):
        raise DataError(
            "the labels are not whole numbers, but classification needs class numbers; try task='regression'"
        )
    labels = y.astype(np.int64)
    classes = tuple(str(k) for k in range(max(int(labels.max()) + 1, 2))) if len(labels) else ()
    return Raw(x, labels, Schema("classification", x.shape[1:], classes, image_mode, columns))
