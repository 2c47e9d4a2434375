"""Patients: trainings made sick on purpose, one planted cause each, and healthy controls.

A patient is a healthy training and a change of it. Every second one, by its name's digest, is for
tuning rules; the others only report.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from clinic import plants
from clinic.plants import Plant
from sklearn.datasets import make_classification, make_friedman1

import danlu
from danlu import Data, Recipe

HEALTHY = "healthy"


@dataclass(frozen=True)
class Base:
    """A healthy training: a source or what makes the data, how much of it, a recipe."""

    source: str | Callable[[], Any]
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
    "clusters": Base(
        lambda: make_classification(
            1500, 16, n_informative=8, n_classes=5, class_sep=1.2, random_state=1
        ),
        None,
        _recipe(
            {"name": "dense", "hidden": (48, 24)},
            "lr=0.003",
            "batch_size=32",
            "epochs=15",
            "model.dropout=0.1",
        ),
        "dense",
    ),
    "friedman": Base(
        lambda: make_friedman1(1200, noise=1.0, random_state=1),
        None,
        _recipe({"name": "dense", "hidden": (48, 48)}, "lr=0.003", "batch_size=32", "epochs=25"),
        "dense",
    ),
    "cifar": Base(
        "cifar10",
        2500,
        _recipe({"name": "cnn"}, "lr=0.002", "epochs=7"),
        "conv",
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
PICTURES = ["digits", "mnist", "fashion"]
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
        if callable(known.source):
            x, y = known.source()
            return danlu.load((x.astype(np.float32), y))
        folder = Path(os.environ.get("DANLU_DATA", ".")) / known.source
        source = str(folder) if folder.is_dir() else known.source
        return danlu.load(source, **({"limit": known.limit} if known.limit else {}))


RECIPE_CAUSES: dict[str, dict[tuple[str, ...], list[str]]] = {
    "lr_too_high": {
        ("optimizer.lr=0.3",): [*PICTURES, *RECURRENT, "clusters", "friedman", "cifar"],
        ("optimizer=sgd", "optimizer.lr=8"): ["digits", "mnist"],
        ("optimizer=momentum", "optimizer.lr=1"): ["mnist-conv", "fashion", "wine"],
    },
    "lr_too_low": {
        ("optimizer.lr=1e-6",): [*PICTURES, *RECURRENT, "wine", "clusters", "friedman", "cifar"],
        ("optimizer=sgd", "optimizer.lr=3e-4"): ["mnist", "mnist-conv"],
    },
    "too_few_epochs": {
        ("epochs=1", "optimizer.lr=3e-4"): ["mnist", "fashion", "names", "prose", "cifar"]
    },
    "overfitting": {
        ("epochs=40", "early_stopping.patience=0", "model.dropout=0"): ["cifar", "dna"],
        ("model.hidden=[512,512]", "epochs=50", "model.dropout=0"): ["clusters"],
        (
            "model.hidden=[256,256]",
            "epochs=50",
            "early_stopping.patience=0",
            "penalty.l2=0",
        ): ["diabetes"],
    },
    "overtrained": {
        ("epochs=150", "early_stopping.patience=0", "penalty.l2=0", "optimizer.lr=0.01"): [
            "diabetes",
            "dna",
        ]
    },
    "stopped_too_early": {
        ("early_stopping.patience=1", "early_stopping.min_delta=0.5"): [
            "digits",
            "mnist",
            "prose",
            "cifar",
        ]
    },
    "schedule_decays_too_soon": {
        ("schedule=exponential", "schedule.gamma=0.05"): [
            "digits",
            "mnist",
            "names",
            "prose",
            "clusters",
        ]
    },
    "batch_too_large": {("batch_size=1000", "epochs=4"): ["digits", "mnist", "dna", "cifar"]},
    "momentum_too_high": {
        ("optimizer=momentum", "optimizer.momentum=0.999", "optimizer.lr=0.05"): NETS
    },
    "optimizer_eps": {("optimizer.eps=10",): [*PICTURES, "names", "clusters"]},
    "clip_too_tight": {
        ("optimizer=sgd", "optimizer.lr=0.1", "clip.norm=0.001"): [*PICTURES, "clusters"]
    },
    "init_too_small": {("init=normal", "init.std=0.0001"): [*PICTURES, "cifar"]},
    "init_too_large": {("init=normal", "init.std=3"): [*PICTURES, "wine", "friedman"]},
    "init_symmetric": {("init=zeros",): ["digits", "mnist", "wine", "clusters"]},
    "init_bias_bad": {("init.bias=-6",): [*PICTURES, "clusters", "cifar"]},
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
        ("model.hidden=[" + ",".join(["10"] * 30) + "]",): ["digits", "mnist", "clusters"],
    },
    "model_too_small": {
        ("model.hidden=[1]",): ["digits", "mnist", "friedman"],
        ("model.hidden=[2]", "model.embedding=2"): ["prose"],
    },
    "missing_nonlinearity": {("model.activation=identity",): [*PICTURES, "friedman"]},
    "dropout_too_strong": {
        ("model.dropout=0.95",): ["digits", "mnist", "dna", "names", "clusters", "cifar"]
    },
    "l1_too_strong": {("penalty.l1=300",): PICTURES},
    "l2_too_strong": {("penalty.l2=3000",): [*PICTURES, "names", "cifar"]},
    "weight_decay_too_strong": {
        ("optimizer=adamw", "optimizer.lr=0.002", "optimizer.weight_decay=50"): PICTURES
    },
    "label_smoothing_too_strong": {("loss.label_smoothing=0.85",): PICTURES},
    "augment_too_strong": {("augment.noise=6",): ["digits", "mnist", "wine", "cifar"]},
    "augment_wrong": {("augment.rotate=180",): ["digits", "mnist", "mnist-conv"]},
    "inputs_not_normalised": {("normalize=none",): ["breast-cancer", "wine"]},
    "batch_too_small": {
        ("batch_size=1", "optimizer.lr=0.01", "epochs=3"): ["digits", "fashion"],
        ("batch_size=1", "optimizer.lr=0.005", "epochs=3"): ["digits", "mnist"],
        ("batch_size=1", "optimizer.lr=0.05", "epochs=5"): ["wine", "breast-cancer"],
    },
    "rnn_memory_too_short": {("model=rnn", "epochs=8"): ["dna"]},
    "exploding_gradient": {
        ("model=rnn", "init=normal", "init.std=0.5", "optimizer=sgd", "optimizer.lr=0.3"): [
            "dna",
            "prose",
        ],
        (
            "model=rnn",
            "model.cell=rnn-relu",
            "init=normal",
            "init.std=0.4",
            "optimizer=sgd",
            "optimizer.lr=0.1",
        ): [
            "dna",
            "names",
        ],
    },
    "batch_norm_tiny_batch": {
        ("model.batch_norm=before", "batch_size=2", "epochs=4"): ["digits", "mnist"]
    },
}
DATA_CAUSES: dict[str, tuple[Plant, list[str], bool]] = {
    "shuffled_labels": (
        plants.shuffled,
        [*PICTURES, "wine", "dna", "cifar"],
        False,
    ),
    "label_noise": (
        plants.noisy(0.35),
        [*PICTURES, "breast-cancer", "clusters", "cifar"],
        True,
    ),
    "nothing_to_learn": (plants.inputs_of_noise, ["digits", "wine", "diabetes", "clusters"], False),
    "label_mapping_mismatch": (plants.recoded, [*PICTURES, "wine"], False),
    "train_test_shift": (plants.shifted, [*PICTURES, "breast-cancer"], False),
    "outliers_in_inputs": (
        plants.far_inputs,
        ["digits", "wine", "breast-cancer", "diabetes"],
        True,
    ),
    "outliers_in_target": (plants.far_targets, ["diabetes", "friedman"], True),
    "constant_target": (plants.constant, ["digits", "diabetes"], False),
    "class_imbalance": (plants.imbalanced, [*PICTURES, "clusters"], True),
    "too_little_data": (plants.few(64), PICTURES, True),
    "target_leak": (plants.leaking, ["wine", "breast-cancer", "diabetes", "friedman"], False),
    "wrong_task": (plants.graded, ["diabetes", "friedman"], False),
    "vocabulary_too_small": (plants.few_words, ["prose"], False),
    "leak_duplicates": (plants.duplicated, ["digits", "mnist", "wine"], False),
}
# Networks of `clinic/networks.py`, of which no edit of a recipe rids anybody.
NETWORK_CAUSES: dict[str, list[str]] = {
    "examples_mixed_in_batch": ["SoftmaxOverBatch", "MeanOverBatch"],
    "dropout_in_evaluation": ["AlwaysDrops"],
    "wrong_output_layer": ["SoftmaxBeforeLoss", "RectifiedOutputs"],
    "wrong_gradient": ["WrongBackward"],
    "frozen_weights": ["FrozenLayers"],
}
CONTROLS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "": ((), list(BASES)),
    "other seed": (("seed=3",), list(BASES)),
    "cosine": (("schedule=cosine",), [*PICTURES, "names", "cifar"]),
    "dropout": (("model.dropout=0.2",), [*PICTURES, "clusters"]),
    "augmented": (("augment.shift=1", "augment.rotate=8"), ["mnist", "mnist-conv", "fashion"]),
    "longer": (("epochs=30",), ["digits", "mnist"]),
    "sgd": (("optimizer=sgd", "optimizer.lr=0.1"), ["digits", "mnist", "mnist-conv", "friedman"]),
    "batch norm": (("model.batch_norm=before",), PICTURES),
    "tanh": (("model.activation=tanh",), ["digits", "mnist", "wine", "clusters"]),
    "smoothing": (("loss.label_smoothing=0.1",), PICTURES),
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
    for cause, networks in NETWORK_CAUSES.items():
        for network in networks:
            for base in ("digits", "mnist", "fashion"):
                changes = (f"model=clinic.networks:{network}",)
                yield Patient(cause, base, changes, variant=network, curable=False)
    for base in ("digits", "mnist", "fashion"):
        yield Patient(HEALTHY, base, ("model=clinic.networks:Sound",), variant="own network")
    for variant, (changes, bases) in CONTROLS.items():
        for base in bases:
            yield Patient(HEALTHY, base, changes, variant=variant)
