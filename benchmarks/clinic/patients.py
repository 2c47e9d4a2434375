"""Patients: trainings made sick on purpose, one planted cause each, and healthy controls.

A patient is a healthy training and a change of it. Every second one, by its name's digest, is for
tuning rules; the others only report.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import danlu
from danlu import Data, Recipe

Plant = Callable[[Data, np.random.Generator], Data]
HEALTHY = "healthy"


@dataclass(frozen=True)
class Base:
    """A healthy training: a source, how much of it, a recipe."""

    source: str
    limit: int | None
    recipe: Recipe
    kind: str  # dense, conv or recurrent


def _recipe(model: dict[str, Any], *changes: str) -> Recipe:
    return Recipe(model=model).with_(list(changes))


BASES: dict[str, Base] = {
    "digits": Base(
        "digits",
        None,
        _recipe({"name": "dense", "hidden": (64, 32)}, "lr=0.002", "batch_size=32", "epochs=20"),
        "dense",
    ),
    "mnist": Base(
        "mnist",
        4000,
        _recipe({"name": "dense", "hidden": (64, 64, 32)}, "lr=0.001", "epochs=12"),
        "dense",
    ),
    "mnist-conv": Base(
        "mnist",
        3000,
        _recipe({"name": "cnn"}, "optimizer=momentum", "optimizer.lr=0.02", "epochs=8"),
        "conv",
    ),
    "fashion": Base(
        "fashion-mnist-3600",
        None,
        _recipe({"name": "cnn"}, "lr=0.002", "epochs=10"),
        "conv",
    ),
    "wine": Base(
        "wine",
        None,
        _recipe({"name": "dense", "hidden": (16,)}, "lr=0.01", "batch_size=16", "epochs=30"),
        "dense",
    ),
    "breast-cancer": Base(
        "breast-cancer",
        None,
        _recipe({"name": "dense", "hidden": (16, 8)}, "lr=0.003", "batch_size=16", "epochs=20"),
        "dense",
    ),
    "diabetes": Base(
        "diabetes",
        None,
        _recipe(
            {"name": "dense", "hidden": (16,)},
            "lr=0.005",
            "batch_size=16",
            "epochs=60",
            "early_stopping.patience=10",
            "penalty.l2=2",
        ),
        "dense",
    ),
    "dna": Base(
        "dna",
        None,
        _recipe(
            {"name": "gru", "hidden": (32,), "embedding": 8},
            "lr=0.005",
            "batch_size=32",
            "epochs=10",
            "early_stopping.patience=4",
        ),
        "recurrent",
    ),
    "names": Base(
        "names",
        None,
        _recipe(
            {"name": "lstm", "hidden": (24,), "embedding": 16, "bidirectional": True},
            "lr=0.01",
            "batch_size=32",
            "epochs=10",
        ),
        "recurrent",
    ),
    "prose": Base(
        "prose",
        600,
        _recipe(
            {"name": "lstm", "hidden": (64,), "embedding": 16},
            "lr=0.005",
            "batch_size=16",
            "epochs=8",
        ),
        "recurrent",
    ),
}
DENSE = [name for name, base in BASES.items() if base.kind == "dense"]
CLASSES = ["digits", "mnist", "mnist-conv", "fashion", "wine", "breast-cancer", "dna"]
NETS = ["digits", "mnist", "mnist-conv", "fashion"]
RECURRENT = ["dna", "names", "prose"]


@dataclass(frozen=True)
class Patient:
    """A training with one planted cause; curable: whether an edit of the recipe can help."""

    cause: str
    base: str
    changes: tuple[str, ...] = ()
    plant: Plant | None = None
    variant: str = ""
    curable: bool = True

    @property
    def name(self) -> str:
        return "/".join(filter(None, (self.cause, self.base, self.variant)))

    @property
    def is_for_tuning(self) -> bool:
        return hashlib.blake2b(self.name.encode()).digest()[0] % 2 == 0

    def recipe(self) -> Recipe:
        return BASES[self.base].recipe.with_(list(self.changes))

    def data(self) -> Data:
        data = _load(self.base)
        if self.plant is None:
            return data
        return self.plant(data, np.random.default_rng(0))


@cache
def _load(base: str) -> Data:
    known = BASES[base]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(os.environ.get("DANLU_DATA", ".")) / known.source
        source = str(folder) if (folder / "train-images-idx3-ubyte.gz").exists() else known.source
        return danlu.load(source, **({"limit": known.limit} if known.limit else {}))


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
        from danlu.data.target_scale import fitted

        return replace(new, schema=fitted(schema, y[data.parts["train"]].numpy()))
    return new


# -- plants ------------------------------------------------------------------------------------


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


def large_inputs(data: Data, rng: np.random.Generator) -> Data:
    x = data.x.float()
    return replaced(data, x=x * 100 + 500)


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


# -- the table ---------------------------------------------------------------------------------

_SGD = ("optimizer=sgd",)
RECIPE_CAUSES: dict[str, dict[tuple[str, ...], list[str]]] = {
    "lr_too_high": {
        ("optimizer.lr=0.3",): ["digits", "mnist", "fashion", "names", "prose", "dna"],
        ("optimizer=sgd", "optimizer.lr=8"): ["digits", "mnist"],
        ("optimizer=momentum", "optimizer.lr=1"): ["mnist-conv", "fashion", "wine"],
    },
    "lr_too_low": {
        ("optimizer.lr=1e-6",): ["digits", "mnist", "fashion", "dna", "names", "prose", "wine"],
        ("optimizer=sgd", "optimizer.lr=3e-4"): ["mnist", "mnist-conv"],
    },
    "too_few_epochs": {("epochs=1", "optimizer.lr=3e-4"): ["mnist", "fashion", "names", "prose"]},
    "overtrained": {
        ("epochs=150", "early_stopping.patience=0", "penalty.l2=0", "optimizer.lr=0.01"): [
            "diabetes",
            "dna",
        ]
    },
    "stopped_too_early": {
        ("early_stopping.patience=1", "early_stopping.min_delta=0.5"): ["digits", "mnist", "prose"]
    },
    "schedule_decays_too_soon": {
        ("schedule=exponential", "schedule.gamma=0.05"): ["digits", "mnist", "names", "prose"]
    },
    "batch_too_large": {("batch_size=1000", "epochs=4"): ["digits", "mnist", "dna"]},
    "momentum_too_high": {
        ("optimizer=momentum", "optimizer.momentum=0.999", "optimizer.lr=0.05"): NETS
    },
    "optimizer_eps": {("optimizer.eps=10",): ["digits", "mnist", "fashion", "names"]},
    "clip_too_tight": {
        ("optimizer=sgd", "optimizer.lr=0.1", "clip.norm=0.001"): ["digits", "mnist", "fashion"]
    },
    "init_too_small": {("init=normal", "init.std=0.0001"): ["digits", "mnist", "fashion"]},
    "init_too_large": {("init=normal", "init.std=3"): ["digits", "mnist", "fashion", "wine"]},
    "init_symmetric": {("init=zeros",): ["digits", "mnist", "wine"]},
    "init_bias_bad": {("init.bias=-6",): ["digits", "mnist", "fashion"]},
    "vanishing_gradient": {
        (
            "model.activation=sigmoid",
            "model.hidden=[32,32,32,32,32,32,32,32]",
            "optimizer=sgd",
            "optimizer.lr=0.05",
        ): ["digits", "mnist"]
    },
    "saturated_activations": {
        ("model.activation=tanh", "init=normal", "init.std=2"): ["digits", "mnist"]
    },
    "too_deep": {
        ("model.hidden=[" + ",".join(["10"] * 30) + "]",): ["digits", "mnist"],
    },
    "model_too_small": {
        ("model.hidden=[1]",): ["digits", "mnist"],
        ("model.hidden=[2]", "model.embedding=2"): ["prose"],
    },
    "missing_nonlinearity": {("model.activation=identity",): ["digits", "mnist", "fashion"]},
    "dropout_too_strong": {("model.dropout=0.95",): ["digits", "mnist", "dna", "names"]},
    "l1_too_strong": {("penalty.l1=300",): ["digits", "mnist", "fashion"]},
    "l2_too_strong": {("penalty.l2=3000",): ["digits", "mnist", "fashion", "names"]},
    "weight_decay_too_strong": {
        ("optimizer=adamw", "optimizer.lr=0.002", "optimizer.weight_decay=50"): [
            "digits",
            "mnist",
            "fashion",
        ]
    },
    "label_smoothing_too_strong": {("loss.label_smoothing=0.85",): ["digits", "mnist", "fashion"]},
    "augment_too_strong": {("augment.noise=6",): ["digits", "mnist", "wine"]},
    "augment_wrong": {("augment.rotate=180",): ["digits", "mnist", "mnist-conv"]},
    "inputs_not_normalised": {("normalize=none",): ["breast-cancer", "wine"]},
    "batch_norm_tiny_batch": {
        ("model.batch_norm=before", "batch_size=2", "epochs=4"): ["digits", "mnist"]
    },
}
DATA_CAUSES: dict[str, tuple[Plant, list[str], bool]] = {
    "shuffled_labels": (shuffled, ["digits", "mnist", "fashion", "wine", "dna"], False),
    "label_noise": (noisy(0.35), ["digits", "mnist", "fashion", "breast-cancer"], True),
    "nothing_to_learn": (inputs_of_noise, ["digits", "wine", "diabetes"], False),
    "label_mapping_mismatch": (recoded, ["digits", "mnist", "fashion", "wine"], False),
    "train_test_shift": (shifted, ["digits", "mnist", "fashion", "breast-cancer"], False),
    "outliers_in_inputs": (far_inputs, ["digits", "wine", "breast-cancer", "diabetes"], True),
    "outliers_in_target": (far_targets, ["diabetes"], True),
    "constant_target": (constant, ["digits", "diabetes"], False),
    "class_imbalance": (imbalanced, ["digits", "mnist", "fashion"], True),
    "too_little_data": (few(64), ["digits", "mnist", "fashion"], True),
    "target_leak": (leaking, ["wine", "breast-cancer", "diabetes"], False),
    "leak_duplicates": (duplicated, ["digits", "mnist", "wine"], False),
}
CONTROLS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "": ((), list(BASES)),
    "other seed": (("seed=3",), list(BASES)),
    "cosine": (("schedule=cosine",), ["digits", "mnist", "fashion", "names"]),
    "dropout": (("model.dropout=0.2",), ["digits", "mnist", "fashion"]),
    "augmented": (("augment.shift=1", "augment.rotate=8"), ["mnist", "mnist-conv", "fashion"]),
    "longer": (("epochs=30",), ["digits", "mnist"]),
    "sgd": (("optimizer=sgd", "optimizer.lr=0.1"), ["digits", "mnist", "mnist-conv"]),
    "batch norm": (("model.batch_norm=before",), ["digits", "mnist", "fashion"]),
    "tanh": (("model.activation=tanh",), ["digits", "mnist", "wine"]),
    "smoothing": (("loss.label_smoothing=0.1",), ["digits", "mnist", "fashion"]),
}


def patients() -> Iterator[Patient]:
    """All of them, the healthy last."""
    for cause, by_changes in RECIPE_CAUSES.items():
        for k, (changes, bases) in enumerate(by_changes.items()):
            for base in bases:
                yield Patient(cause, base, changes, variant=str(k) if k else "")
    for cause, (plant, bases, curable) in DATA_CAUSES.items():
        for base in bases:
            yield Patient(cause, base, plant=plant, curable=curable)
    for variant, (changes, bases) in CONTROLS.items():
        for base in bases:
            yield Patient(HEALTHY, base, changes, variant=variant)
