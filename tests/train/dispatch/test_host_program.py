"""A program that trains in the middle of its own work finds everything as it left it."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from danlu import Recipe, compare, fit, load, tune
from danlu.host import compute_threads, csv_cells_of, environment, hub_offline, importable


def settings() -> dict[str, Any]:
    """Everything of the process that others share, as plain values."""
    import huggingface_hub.constants

    return {
        "threads": torch.get_num_threads(),
        "flushes denormals": float(torch.tensor(1e-40) * 1.0) == 0,
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "random state of torch": torch.get_rng_state().tolist(),
        "random state of numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "random state of python": random.getstate(),
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "csv": csv.field_size_limit(),
        "path": list(sys.path),
        "environment": dict(os.environ),
        "offline": huggingface_hub.constants.HF_HUB_OFFLINE,
        "working folder": os.getcwd(),
    }


def train_one(folder: Path) -> None:
    run = fit(Recipe(epochs=2, model={"dropout": 0.2}), load("iris"), out=folder / "run")
    run.predict(load("iris").x[:3], samples=3)


def train_many(folder: Path) -> None:
    compare(load("iris"), ["lr=0.01,0.1"], recipe=Recipe(epochs=2), seeds=2, out=folder / "c")
    tune(load("iris"), ["lr=1e-3..1e-1:log"], recipe=Recipe(epochs=1), trials=3, out=folder / "t")


def read_texts(folder: Path) -> None:
    table = folder / "t.csv"
    table.write_text("text,label\n" + "\n".join(f"good {k},{k % 2}" for k in range(60)))
    recipe = Recipe(model={"name": "gru", "hidden": (4,), "embedding": 3}, epochs=1, batch_size=8)
    fit(recipe, load(str(table)), out=folder / "run")


@pytest.fixture
def unusual_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Values that neither danlu nor anything it imports would set, so that none passes by chance."""
    threads, limit = torch.get_num_threads(), csv.field_size_limit()
    flushes = settings()["flushes denormals"]
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    torch.set_num_threads(3)
    torch.set_flush_denormal(False)
    csv.field_size_limit(4321)
    torch.manual_seed(1234)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(flushes)
    csv.field_size_limit(limit)


@pytest.mark.usefixtures("unusual_settings")
@pytest.mark.parametrize("work", [train_one, train_many, read_texts], ids=lambda f: f.__name__)
def test_the_host_program_is_left_as_it_was(work: Any, tmp_path: Path) -> None:
    shared = ("warnings", "path", "environment")
    before = settings()
    work(tmp_path)
    after = settings()
    assert {k: v for k, v in after.items() if v != before[k] and k not in shared} == {}
    # What is imported for the first time may add its own to these.
    before = settings()
    (tmp_path / "again").mkdir()
    work(tmp_path / "again")
    after = settings()
    assert {k: v for k, v in after.items() if v != before[k]} == {}


@pytest.mark.usefixtures("unusual_settings")
def test_settings_are_restored_after_an_error(tmp_path: Path) -> None:
    before = settings()
    contexts = [
        compute_threads(3),
        csv_cells_of(10**6),
        environment(DANLU_TEST="1"),
        hub_offline(),
        importable(str(tmp_path)),
    ]
    for context in contexts:
        with pytest.raises(ZeroDivisionError), context:
            assert settings() != before
            raise ZeroDivisionError
    assert settings() == before


def test_a_host_s_default_dtype_changes_no_training(tmp_path: Path) -> None:
    recipe, data = Recipe(epochs=1), load("iris")
    plain = fit(recipe, data, out=tmp_path / "plain").model().state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        other = fit(recipe, load("iris"), out=tmp_path / "other").model().state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(plain[k], other[k]) and plain[k].dtype == other[k].dtype for k in plain)


def test_the_environment_of_the_user_wins() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_TEST", "mine")
        with environment(DANLU_TEST="ours"):
            assert os.environ["DANLU_TEST"] == "mine"
        assert json.dumps(os.environ["DANLU_TEST"]) == '"mine"'
