"""Every probe, on every way of training, against the naive oracle; and training unchanged by them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from train.probes.captured import train_and_capture
from train.probes.oracle_of_layers import OF_LAYER
from train.probes.oracle_of_network import OF_NETWORK

from danlu import Data, Recipe, fit
from danlu.runs.measurements import WHOLE
from danlu.train import train
from danlu.train.dispatch.choose import StepCosts
from danlu.train.probes.table import PROBES

FIELDS: dict[str, Any] = {"batch_size": 12, "epochs": 2, "dtype": "float64"}
SMALL: dict[str, Any] = {"hidden": (5, 4), "embedding": 3}


@dataclass
class Way:
    """What is trained, and by which forward pass that is; left_out: probes without an oracle."""

    model: dict[str, Any]
    data: str
    by: str
    members: int = 1
    others: Any = None
    left_out: tuple[str, ...] = ()


PENALISED = {
    "penalty": {"l1": 0.3, "l2": 0.5},
    "clip": {"norm": 0.4},
    "optimizer": {"name": "adamw", "weight_decay": 0.2, "lr": 0.01},
}
# A network with batch normalisation in evaluation mode has a Hessian of its own statistics.
WAYS = {
    "dense": Way({"name": "dense", "hidden": (6, 5)}, "pictures", "chain", others=PENALISED),
    "dense, four": Way(
        {"name": "dense", "hidden": (6, 5), "activation": "sigmoid", "dropout": 0.3},
        "pictures",
        "chain",
        4,
        {"loss": {"label_smoothing": 0.1}, "sample": {"share": 0.5}},
    ),
    "tanh": Way({"name": "dense", "hidden": (4,), "activation": "tanh"}, "pictures", "chain"),
    "elu": Way({"name": "dense", "hidden": (4,), "activation": "elu"}, "pictures", "chain", 2),
    "batch norm": Way(
        {"name": "dense", "hidden": (6, 5), "batch_norm": "before"}, "pictures", "chain", 2
    ),
    "numbers": Way({"name": "dense", "hidden": (6,)}, "numbers", "chain", 2),
    "conv": Way({"name": "cnn", "kernel_size": 5}, "pictures", "chain", 2),
    "library conv": Way(
        {"name": "vgg11", "width": 1 / 8, "stem": "small", "hidden": (8, 6)}, "big", "library chain"
    ),
    "residual": Way({"name": "resnet18", "width": 1 / 32, "stem": "small"}, "big", "module"),
    "residual, three": Way(
        {"name": "resnet18", "width": 1 / 32, "stem": "small"}, "big", "vmap", 3
    ),
    "lstm": Way({"name": "lstm", **SMALL}, "labelled", "module"),
    "gru, two": Way({"name": "gru", **SMALL, "dropout": 0.2}, "labelled", "vmap", 2),
    "rnn, two ways": Way({"name": "rnn", **SMALL, "bidirectional": True}, "tagged", "vmap", 2),
    "language": Way({"name": "lstm", **SMALL}, "running", "vmap", 2),
    "stateful": Way({"name": "gru", **SMALL, "stateful": True}, "running", "module"),
    "crf": Way(
        {"name": "lstm", **SMALL, "crf": True},
        "tagged",
        "module",
        left_out=("sample_loss", "sample_accuracy"),
    ),
}
# Of every level "full", once on each way of passing.
FULL = ("dense", "dense, four", "elu")


@pytest.fixture(autouse=True)
def unmeasured_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepCosts, "seconds", lambda *a, **k: 1e-9)


def recipes_of(way: Way) -> list[Recipe]:
    found = []
    for i in range(way.members):
        fields = {"optimizer": {"name": "momentum", "lr": 0.05 * (i + 1)}, **(way.others or {})}
        found.append(Recipe(model=way.model, seed=i, **{**FIELDS, **fields}))
    return found


def data_of(way: Way, request: pytest.FixtureRequest) -> Data:
    found: Data = request.getfixturevalue(way.data)
    return found


def test_every_probe_has_an_oracle() -> None:
    assert {**OF_NETWORK, **OF_LAYER}.keys() == PROBES.keys()


def assert_equal(found: Any, expected: Any, what: str, tolerance: float = 1e-6) -> None:
    if found is None or (isinstance(found, float) and np.isnan(found)):
        missing = expected is None or np.all(np.isnan(np.asarray(expected, float)))
        assert missing, f"{what} is missing, but is {expected}"
        return
    np.testing.assert_allclose(
        np.asarray(found, float),
        np.asarray(expected, float),
        rtol=tolerance,
        atol=1e-7 if np.ndim(found) else 1e-10,
        err_msg=what,
    )


@pytest.mark.parametrize("name", WAYS)
def test_probes_find_what_the_oracle_finds(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = WAYS[name]
    data = data_of(way, request)
    level = "full" if name in FULL else "light"
    recipes = recipes_of(way)
    study, cases, ways = train_and_capture(recipes, data, tmp_path / "s", level, monkeypatch)
    assert ways == {way.by}
    table = study.measurements()
    assert len(cases) == len(table[["member", "step"]].drop_duplicates()) > 0
    taken = set()
    for _, row in table.iterrows():
        case = cases[row["member"], row["step"]]
        layer = row["layer"]
        oracle = OF_NETWORK if layer == WHOLE else OF_LAYER
        for probe in oracle:
            if probe not in row or probe in way.left_out:
                continue
            present = row[probe] is not None and np.all(pd.notna(row[probe]))
            if not present and not applies(probe, layer, case, level):
                continue
            what = f"{probe} of {layer or 'the network'} at step {row['step']}"
            expected = oracle[probe](case) if layer == WHOLE else oracle[probe](case, layer)
            loose = {"sharpness": 0.05, "progress": 1e-4, "histogram": 0.2}.get(probe, 1e-6)
            if probe == "histogram":  # a value at an edge may fall on either side
                assert sum(row[probe]) == sum(expected)
                assert np.abs(np.cumsum(row[probe]) - np.cumsum(expected)).max() <= 2
            else:
                assert_equal(row[probe], expected, what, loose)
            taken.add(probe)
    assert {"sample_loss_training", "activation_rms", "update_ratio", "gradient_cosine"} <= taken


def applies(probe: str, layer: str, case: Any, level: str) -> bool:
    """Whether there should be a figure where there is none."""
    row = PROBES[probe]
    if layer == WHOLE:
        is_of_classes = probe not in ("class_losses", "class_accuracies")
        return row.level in ("light", level) and is_of_classes
    if row.place == "activation":
        has_output = layer in case.halves[0].outputs
        module = case.model.get_submodule(layer.partition(":")[0])
        return has_output and row.applies(module) and not isinstance(module, torch.nn.Flatten)
    if row.place == "weight":
        return any((n.rpartition(".")[0] or n) == layer for n in case.gradient)
    return False


@pytest.mark.parametrize("name", WAYS)
def test_training_is_the_same_to_the_last_bit(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    way = WAYS[name]
    data = data_of(way, request)
    recipes = recipes_of(way)
    level = "full" if name in FULL else "light"
    off = train(recipes, data, out=tmp_path / "off")
    on = train(recipes, data, out=tmp_path / "on", probes=level)
    for i in range(len(recipes)):
        theirs = off.weights(i)
        for key, own in on.weights(i).items():
            assert torch.equal(own, theirs[key]), key
    assert off.measurements().empty
    assert not on.measurements().empty


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.members > 1])
def test_a_member_measures_what_it_would_alone(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    way = WAYS[name]
    data = data_of(way, request)
    recipes = recipes_of(way)
    study = train(recipes, data, out=tmp_path / "study", probes="light")
    for i, recipe in enumerate(recipes):
        alone = fit(recipe, data, out=tmp_path / f"alone{i}").measurements
        own = study.measurements(i)
        assert list(own["layer"]) == list(alone["layer"])
        assert list(own["step"]) == list(alone["step"])
        for column in own.columns.drop("layer"):
            for found, expected in zip(own[column], alone[column], strict=True):
                # Rounding is another in a population; where a figure is near 0, all of it is.
                if column == "histogram":
                    continue
                assert_equal(found, expected, column, 1e-4)
