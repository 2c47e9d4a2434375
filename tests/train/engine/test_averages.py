"""Averages of weights, accumulated gradients, bfloat16: each against what it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from populations import close
from processes import StopAt
from torch import Tensor

from danlu import Data, Recipe, fit, resume
from danlu.errors import Interrupted
from danlu.train.engine.population import Population

BASE: dict[str, Any] = {
    "model": {"name": "cnn", "channels": (4, 4), "hidden": (8,)},
    "batch_size": 13,
    "dtype": "float64",
}


@pytest.fixture
def trail(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The weights after every update."""
    seen: list[dict[str, Tensor]] = []
    update = Population._update

    def watched(self: Population, k: int) -> None:
        update(self, k)
        seen.append(self.stack.state_dict(0))

    monkeypatch.setattr(Population, "_update", watched)
    return seen


@pytest.mark.parametrize("batch_norm", ["none", "before"])
def test_ema_is_the_formula(
    pictures: Data, tmp_path: Path, trail: list[dict[str, Tensor]], batch_norm: str
) -> None:
    model = {**BASE["model"], "batch_norm": batch_norm}
    recipe = Recipe(**{**BASE, "model": model}, average={"name": "ema", "decay": 0.8}, epochs=2)
    start = Recipe(**{**BASE, "model": model}, epochs=2)
    run = fit(recipe, pictures, out=tmp_path / "run")
    mean: dict[str, Tensor] = {}
    for n, w in enumerate(trail, 1):
        d = min(0.8, n / (9 + n))
        first = dict(fit_start(start, pictures)) if n == 1 else mean
        mean = {k: d * first[k] + (1 - d) * w[k] if w[k].is_floating_point() else w[k] for k in w}
    close(run.model().state_dict(), mean)
    for k, v in (
        ("loss", run.evaluate(pictures, "valid").loss),
        ("accuracy", run.evaluate(pictures, "valid").accuracy),
    ):
        assert run.history[-1][f"valid_{k}"] == pytest.approx(
            v
        )  # what was validated is what was kept
    assert not torch.equal(mean["output.weight"], trail[-1]["output.weight"])


def fit_start(recipe: Recipe, data: Data) -> dict[str, Tensor]:
    from danlu.recipe.build import build_model

    return build_model(recipe, data.schema).state_dict()


def test_swa_is_the_mean_of_late_epochs(
    pictures: Data, tmp_path: Path, trail: list[dict[str, Tensor]]
) -> None:
    run = fit(
        Recipe(**BASE, average={"name": "swa", "start": 0.5}, epochs=6),
        pictures,
        out=tmp_path / "run",
    )
    per_epoch = len(trail) // 6
    late = [trail[per_epoch * e - 1] for e in (4, 5, 6)]
    close(run.model().state_dict(), {k: torch.stack([w[k] for w in late]).mean(0) for k in late[0]})


def test_early_stopping_keeps_the_best_average(pictures: Data, tmp_path: Path) -> None:
    recipe = Recipe(**BASE, average={"name": "ema", "decay": 0.9}, epochs=30, optimizer={"name": "adam", "lr": 0.03},
                    early_stopping={"patience": 2})  # fmt: skip
    run = fit(recipe, pictures, out=tmp_path / "run")
    best = min(run.history, key=lambda row: row["valid_loss"])
    assert run.result["best_epoch"] == best["epoch"] < 30
    assert run.evaluate(pictures, "valid").loss == pytest.approx(best["valid_loss"])


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_accumulated_gradients_are_those_of_the_larger_batch(
    pictures: Data, tmp_path: Path, optimizer: str, schedule: str
) -> None:
    """Schedules count updates; the last update of an epoch is of what is left."""
    fields = {
        **BASE,
        "optimizer": optimizer,
        "schedule": schedule,
        "epochs": 3,
        "penalty": {"l2": 0.3},
        "clip": {"norm": 0.5},
    }
    parts = fit(
        Recipe(**{**fields, "batch_size": 7, "accumulate": 4}), pictures, out=tmp_path / "parts"
    )
    whole = fit(Recipe(**{**fields, "batch_size": 28}), pictures, out=tmp_path / "whole")
    close(parts.model().state_dict(), whole.model().state_dict())
    assert [row["lr"] for row in parts.history] == pytest.approx(
        [row["lr"] for row in whole.history]
    )
    assert parts.result["steps"] == 3 * 11 and whole.result["steps"] == 3 * 3  # 72 examples


def test_accumulation_weighs_batches_by_their_examples(pictures: Data, tmp_path: Path) -> None:
    """Where examples do not count alike, batches do not either."""
    fields = {
        **BASE,
        "epochs": 2,
        "optimizer": "sgd",
        "sample": {"bootstrap": True},
        "loss": {"class_weights": "balanced"},
    }
    parts = fit(
        Recipe(**{**fields, "batch_size": 6, "accumulate": 3}), pictures, out=tmp_path / "parts"
    )
    whole = fit(Recipe(**{**fields, "batch_size": 18}), pictures, out=tmp_path / "whole")
    close(parts.model().state_dict(), whole.model().state_dict())


@pytest.mark.parametrize("average", ["ema", {"name": "swa", "start": 0.3}])
@pytest.mark.parametrize("step", [5, 12])
def test_a_run_resumed_within_an_accumulation_ends_the_same(
    pictures: Data, tmp_path: Path, average: Any, step: int
) -> None:
    recipe = Recipe(**{**BASE, "batch_size": 7, "accumulate": 4}, average=average, epochs=3)
    through = fit(recipe, pictures, out=tmp_path / "through")
    with pytest.raises(Interrupted):
        fit(recipe, pictures, out=tmp_path / "stopped", listener=StopAt(step))
    again = resume(tmp_path / "stopped", pictures)
    a, b = through.model().state_dict(), again.model().state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    "model", ["cnn", {"name": "resnet18", "width": 1 / 16}, {"name": "googlenet", "width": 1 / 16}]
)
def test_bfloat16_learns_the_same(pictures: Data, tmp_path: Path, model: Any) -> None:
    """Weights stay float32; the first losses agree to bfloat16's three digits, and what is kept is evaluated in float32."""
    fields: dict[str, Any] = {
        "model": model,
        "batch_size": 16,
        "epochs": 2,
        "optimizer": {"name": "sgd", "lr": 1e-3},
    }
    mixed = fit(Recipe(**fields, dtype="bf16-mixed"), pictures, out=tmp_path / "mixed")
    exact = fit(Recipe(**fields), pictures, out=tmp_path / "exact")
    assert all(
        v.dtype == torch.float32
        for v in mixed.model().state_dict().values()
        if v.is_floating_point()
    )
    assert mixed.history[0]["train_loss"] == pytest.approx(exact.history[0]["train_loss"], rel=0.05)
    assert mixed.history[0]["train_loss"] != exact.history[0]["train_loss"]
    assert mixed.evaluate(pictures).loss == pytest.approx(mixed.result["test_loss"], rel=1e-6)
