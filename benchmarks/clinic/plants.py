"""What is planted in data to make a training sick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

import danlu
from danlu import Data
from danlu.data.target_scale import fitted

Plant = Callable[[Data, np.random.Generator], Data]


def replaced(data: Data, x: torch.Tensor | None = None, y: torch.Tensor | None = None) -> Data:
    """The same parts with other examples or targets."""
    schema = data.schema
    new = replace(
        data,
        x=data.x if x is None else x,
        y=data.y if y is None else y,
        reloadable=False,
        _fitted={},
        _on_devices={},
    )
    if schema.is_regression and y is not None:
        return replace(new, schema=fitted(schema, y[data.parts["train"]].numpy()))
    return new


def shuffled(data: Data, rng: np.random.Generator) -> Data:
    y = data.y.clone()
    for part in ("train", "valid", "test"):
        rows = data.parts[part]
        y[rows] = y[rows[torch.from_numpy(rng.permutation(len(rows)))]]
    return replaced(data, y=y)


def noisy(share: float) -> Plant:
    def plant(data: Data, rng: np.random.Generator) -> Data:
        y = data.y.clone()
        rows = torch.cat([data.parts["train"], data.parts["valid"]])
        wrong = rows[torch.from_numpy(rng.random(len(rows)) < share)]
        offset = torch.from_numpy(rng.integers(1, data.schema.outputs, len(wrong)))
        y[wrong] = (y[wrong] + offset) % data.schema.outputs
        return replaced(data, y=y)

    return plant


def inputs_of_noise(data: Data, rng: np.random.Generator) -> Data:
    x = torch.from_numpy(rng.normal(size=tuple(data.x.shape)).astype(np.float32))
    return replaced(data, x=x)


def recoded(data: Data, rng: np.random.Generator) -> Data:
    y = data.y.clone()
    rows = data.parts["test"]
    y[rows] = (y[rows] + 1) % data.schema.outputs
    return replaced(data, y=y)


def shifted(data: Data, rng: np.random.Generator) -> Data:
    x = data.x.float().clone()
    rows = data.parts["test"]
    flat = x[rows].flatten(1)
    spread = flat.std(0, keepdim=True).clamp_min(1e-6)
    noise = torch.from_numpy(rng.normal(size=tuple(flat.shape)).astype(np.float32))
    x[rows] = (flat + 1.2 * spread + 0.8 * spread * noise).view_as(x[rows])
    return replaced(data, x=x)


def far_inputs(data: Data, rng: np.random.Generator) -> Data:
    x = data.x.float().clone()
    rows = data.parts["train"]
    some = rows[torch.from_numpy(rng.random(len(rows)) < 0.01)]
    x[some] = x[some] * 3000 + 3000
    return replaced(data, x=x)


def far_targets(data: Data, rng: np.random.Generator) -> Data:
    y = data.y.clone()
    rows = data.parts["train"]
    some = rows[torch.from_numpy(rng.random(len(rows)) < 0.02)]
    y[some] = y[some] + 100 * y.std()
    return replaced(data, y=y)


def graded(data: Data, rng: np.random.Generator) -> Data:
    """Five grades, as numbers."""
    edges = data.y.quantile(torch.tensor([0.2, 0.4, 0.6, 0.8]))
    return replaced(data, y=torch.bucketize(data.y, edges).float())


def few_words(data: Data, rng: np.random.Generator) -> Data:
    """The same text in words, of which only the commonest are known."""
    options = {key: data.source[key] for key in ("source", "limit")}
    return danlu.load(**options, tokens="words", vocabulary=20)


def constant(data: Data, rng: np.random.Generator) -> Data:
    return replaced(data, y=torch.full_like(data.y, 3 if not data.schema.is_regression else 3.0))


def without(data: Data, part: str, keep: torch.Tensor) -> Data:
    return replace(data, parts={**data.parts, part: data.parts[part][keep]}, reloadable=False)


def imbalanced(data: Data, rng: np.random.Generator) -> Data:
    for part in ("train", "valid", "test"):
        y = data.y[data.parts[part]]
        keep = (y == 0) | torch.from_numpy(rng.random(len(y)) < 0.02 + 0.01 * (part != "train"))
        data = without(data, part, keep)
    return data


def few(n: int) -> Plant:
    """A training part of so many; batches are no larger."""

    def plant(data: Data, rng: np.random.Generator) -> Data:
        keep = torch.zeros(data.size("train"), dtype=torch.bool)
        keep[:n] = True
        return without(data, "train", keep)

    return plant


def leaking(data: Data, rng: np.random.Generator) -> Data:
    x = data.x.float().clone()
    flat = x.view(len(x), -1)
    flat[:, 0] = data.y.float() + 0.01 * torch.from_numpy(
        rng.normal(size=len(x)).astype(np.float32)
    )
    rows = data.parts["test"]
    flat[rows, 0] = flat[rows[torch.from_numpy(rng.permutation(len(rows)))], 0]
    return replaced(data, x=flat.view_as(x))


def duplicated(data: Data, rng: np.random.Generator) -> Data:
    x, y = data.x.float().clone(), data.y.clone()
    rows, source = data.parts["valid"], data.parts["train"]
    some = rows[: len(rows) // 2]
    drawn = source[torch.from_numpy(rng.integers(len(source), size=len(some)))]
    spread = x[source].flatten(1).std(0).view(x.shape[1:])
    x[some] = x[drawn] + 0.01 * spread
    y[some] = y[drawn]
    return replaced(data, x=x, y=y)
