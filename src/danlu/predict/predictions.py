"""Predicting classes and numbers, with the spread of Monte-Carlo dropout by option.

Legend: N examples, K classes, S passes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from danlu.data import Schema
from danlu.data.inputs import packed
from danlu.data.memmap import parse_bytes
from danlu.data.tables.rows import encode_numbers, encode_rows, frame_of, texts_of
from danlu.data.target_scale import in_units
from danlu.errors import DataNotice, RunError, notify, wrong
from danlu.nn.layers import Dropout, dropout_source
from danlu.predict import evaluate
from danlu.predict.text import encode
from danlu.predict.trained import Trained
from danlu.recipe import Recipe
from danlu.rng import drawn_apart, stream

_USE_INSTEAD = {
    "tagging": "run.tag(texts)",
    "pairs": "run.translate(texts)",
    "language": "run.score or run.generate",
}


@dataclass(frozen=True)
class Prediction:
    """For N examples: `values` [N] (class numbers, or numbers) and `probabilities` [N, K].

    Regression has no probabilities. With Monte-Carlo dropout `spread` holds the standard deviation
    over the passes, of the same shape as `probabilities` (or `values`).
    """

    values: Tensor
    probabilities: Tensor | None
    spread: Tensor | None
    classes: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """Class names of the predictions."""
        return [self.classes[k] for k in self.values.tolist()]


def predict(trained: Trained, x: Any, samples: int = 0, seed: int = 0) -> Prediction:
    """Predict raw examples x [N, *input_shape] (normalised here as in training), texts, or rows.

    Several inputs are a dictionary of arrays or a tuple of them, as in training. Rows of a table
    are a data frame, a dictionary of cells or columns, or a list of dictionaries; columns are found
    by name.

    samples: that many passes with dropout left on, averaged, with their spread (Monte-Carlo
    dropout, Gal and Ghahramani 2016). Raises RunError when the shape does not fit or nothing is
    dropped.
    """
    schema = trained.schema
    if schema.each_token:
        raise RunError(
            f"{str(trained.path)!r} predicts something for every token; "
            f"use {_USE_INSTEAD[schema.task]}"
        )
    raw = _as_examples(trained, x)
    model = trained.model()
    batches = raw.split(evaluate.rows_per_pass(schema))
    if not samples:
        out = evaluate.outputs(model, iter(batches), trained.normalizer)
        return _prediction(out[None], schema)

    _turn_dropout_on(model, trained.recipe)
    passes = []
    for k in range(samples):
        with _random_streams(seed, k), torch.no_grad():
            outputs = [model(trained.normalizer(batch)) for batch in batches]
        passes.append(torch.cat(outputs))
    return _prediction(torch.stack(passes), schema)


@contextlib.contextmanager
def _random_streams(seed: int, k: int) -> Iterator[None]:
    """Draw the masks of pass k from its own streams: danlu's dropout, and PyTorch's as well."""
    with dropout_source(stream(seed, "predict", k)), drawn_apart(seed + k):
        yield


def _turn_dropout_on(model: nn.Module, recipe: Recipe) -> None:
    """Put dropout layers into training mode. Raises RunError for a network without any.

    Auxiliary classifiers are run in training only, so their dropout does not count.
    """
    drops = []
    for path, layer in model.named_modules():
        is_dropout = isinstance(layer, (Dropout, nn.Dropout))
        if is_dropout and not path.startswith("aux"):
            drops.append(layer)
    if not any(layer.p for layer in drops):
        can_have_it = recipe.model.dropout is not None
        hint = "train one with model.dropout=0.5" if can_have_it else "train one that can have it"
        raise RunError(f"`samples` needs a network with dropout, but this one has none; {hint}")
    for layer in drops:
        layer.train()


def _as_examples(trained: Trained, x: Any) -> Tensor:
    """Return examples as a tensor of the network's shape; of texts, their token numbers [N, T]."""
    schema = trained.schema
    if schema.is_text and not _holds_numbers(x):
        frame = frame_of(x)
        if frame is not None:
            x = texts_of(frame, schema.text_column, "the data")
        texts = x.tolist() if isinstance(x, np.ndarray) else x
        return encode(trained, texts)
    if schema.inputs:
        rows, _ = packed(x, schema.inputs)
        return torch.from_numpy(rows)
    if hasattr(x, "toarray"):  # one of SciPy's sparse matrices
        x = x.toarray()
    if schema.columns:
        frame = frame_of(x)
        if frame is not None:
            return _rows_of(frame, schema)
        x = encode_numbers(x, schema.columns)
    raw = _laid_out(torch.as_tensor(x), schema)
    _check_examples(raw, schema)
    return raw


def _laid_out(raw: Tensor, schema: Schema) -> Tensor:
    """Return examples as batches hold them, [N, C, H, W], of all that `load` reads as such.

    A single example may lack N, pictures of one channel may lack C, and C may come last.
    """
    shape = schema.input_shape
    if shape == (1,) and raw.ndim == 1:
        return raw[:, None]
    if raw.shape[1:] == shape:
        return raw
    if raw.shape == shape:
        return raw[None]
    if not schema.is_image:
        return raw
    if shape[0] == 1 and raw.shape == shape[1:]:
        return raw[None, None]
    if shape[0] == 1 and raw.shape[1:] == shape[1:]:
        return raw[:, None]
    channels_last = (*shape[1:], shape[0])
    if raw.shape == channels_last:
        raw = raw[None]
    return raw.movedim(-1, 1) if raw.shape[1:] == channels_last else raw


def _rows_of(frame: Any, schema: Schema) -> Tensor:
    features, notices = encode_rows(frame, schema.columns, "the data", parse_bytes(None))
    for notice in notices:
        notify(notice, DataNotice)
    return torch.from_numpy(features)


def _check_examples(raw: Tensor, schema: Schema) -> None:
    """Raise RunError for examples that the network cannot take."""
    has_any_length = schema.is_text and raw.ndim == 2
    is_same_shape = tuple(raw.shape[1:]) == schema.input_shape
    if not is_same_shape and not has_any_length:
        shape = ", ".join(map(str, schema.input_shape))
        raise RunError(wrong("x", tuple(raw.shape), f"must have the shape (N, {shape})"))
    if not raw.numel():
        raise RunError("`x` holds no example; give at least one")
    if schema.is_text and not _are_tokens(raw, schema.tokens):
        raise RunError(
            f"`x` must hold numbers of tokens, whole and below {schema.tokens:,}; give texts"
        )


def _holds_numbers(x: Any) -> bool:
    """Whether x is an array or a tensor of something else than strings."""
    if isinstance(x, np.ndarray):
        return x.dtype.kind not in "UO"
    return isinstance(x, Tensor)


def _are_tokens(x: Tensor, tokens: int) -> bool:
    if x.is_floating_point():
        return False
    is_known = (x >= 0) & (x < tokens)
    return bool(is_known.all())


def _prediction(passes: Tensor, schema: Schema) -> Prediction:
    """Return mean and spread over passes [S, N, K]."""
    has_spread = len(passes) > 1
    if schema.is_regression:
        numbers = in_units(passes[..., 0], schema)  # [S, N]
        spread = numbers.std(0) if has_spread else None
        return Prediction(numbers.mean(0), None, spread, ())
    # Probabilities are averaged, not logits: that is the ensemble's prediction.
    p = passes.softmax(-1)
    average = p.mean(0)  # [N, K]
    spread = p.std(0) if has_spread else None
    return Prediction(average.argmax(1), average, spread, schema.classes)
