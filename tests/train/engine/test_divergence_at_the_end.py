"""Divergence in the last update, and what becomes of best weights from before."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from danlu import Data, Recipe, Run, compare, fit, load
from danlu.diagnosis import verdict
from danlu.errors import Diverged
from danlu.train import train

# One step an epoch; the rates are such that the last update, and no earlier one, blows up.
LATE = {"optimizer": {"name": "sgd", "lr": 1e30}, "model": {"name": "dense", "hidden": (5, 5)}}


def three() -> Data:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)).astype(np.float32)
    return load((x, (x[:, 0] > 0).astype(int)), split="60/20/20")


def recipe(epochs: int = 1, **fields: Any) -> Recipe:
    return Recipe(epochs=epochs, batch_size=24, **{**LATE, **fields})


def test_a_loss_that_is_nan_at_the_end_is_a_divergence(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="NaN or infinite at the end, after step 1; try a smaller"):
        fit(recipe(), three(), out=tmp_path / "run")
    run = Run(tmp_path / "run")
    assert run.status == "diverged"
    assert run.result == {}
    study = train(
        [recipe(), recipe(seed=1), Recipe(epochs=1, batch_size=24)], three(), out=tmp_path / "study"
    )
    assert [m.status for _, m in sorted(study.members.items())] == ["diverged"] * 2 + ["finished"]


def test_a_comparison_takes_no_value_of_it(tmp_path: Path) -> None:
    found = compare(
        three(),
        {"optimizer.lr": [0.01, 1e30]},
        recipe=recipe(),
        seeds=2,
        out=tmp_path / "study",
    )
    assert found.rows[1].diverged == 2
    assert all(math.isfinite(value) for value in found.figures[0])


class _Bomb(torch.nn.Module):
    """A network whose output becomes NaN in training after some batches."""

    def __init__(self, outputs: int = 2, input_shape: tuple[int, ...] = (4,)) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(*input_shape, outputs)
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.batches.add_(1)
        burnt = torch.where(self.batches > 6, torch.nan, 0.0)
        return self.layer(x) + (burnt if self.training else 0.0)


@pytest.mark.parametrize("members", [1, 2])
def test_best_weights_from_before_are_handed_out(members: int, tmp_path: Path) -> None:
    """Three steps an epoch: the third epoch's first step diverges, the second epoch is kept."""
    base = Recipe(model=f"{__name__}:_Bomb", epochs=9, batch_size=8, optimizer={"lr": 0.05})
    base = base.with_(["early_stopping.patience=9"])
    data = three()
    if members == 1:
        run = fit(base, data, out=tmp_path / "run")
        runs = [run]
        assert "Training diverged at step 6; the weights are those of epoch" in " ".join(
            verdict(run)
        )
    else:
        study = train([base, base.with_(seed=1)], data, out=tmp_path / "study")
        runs = [study.run(i, data) for i in range(2)]
    for run in runs:
        assert run.status == "finished"
        assert run.result["diverged_step"] == 6
        curve = [row["valid_loss"] for row in run.history]
        assert len(curve) == 2
        assert run.result["best_epoch"] == 1 + int(np.argmin(curve))
        assert run.result["valid_loss"] == pytest.approx(min(curve), rel=1e-5)
        assert run.evaluate(data, "valid").loss == pytest.approx(min(curve), rel=1e-5)


def test_weights_from_before_are_no_evidence_for_a_recipe(tmp_path: Path) -> None:
    """They may serve, but a comparison takes no value of a training that diverged."""
    base = Recipe(epochs=9, batch_size=8, optimizer={"lr": 0.05})
    found = compare(
        three(),
        models={"calm": "softmax", "bomb": f"{__name__}:_Bomb"},
        recipe=base.with_(["early_stopping.patience=9"]),
        seeds=2,
        out=tmp_path / "study",
    )
    assert [row.diverged for row in found.rows] == [0, 2]
    assert found.study.members[1].status == "finished"


def test_without_best_weights_it_is_a_divergence(tmp_path: Path) -> None:
    base = Recipe(model=f"{__name__}:_Bomb", epochs=9, batch_size=8)
    with pytest.raises(Diverged, match="at step 6"):
        fit(base, three(), out=tmp_path / "run")


def test_a_training_loss_beyond_all_learning_is_a_divergence(tmp_path: Path) -> None:
    """It is finite only because training ended in time."""
    wild = Recipe(epochs=1, batch_size=128, model={"hidden": [32]}, optimizer={"name": "sgd", "lr": 0.5})  # fmt: skip
    with pytest.raises(Diverged, match=r"on the training part is [\d.]+e\+\d\d at the end"):
        fit(wild, load("diabetes"), out=tmp_path / "run")
    assert Run(tmp_path / "run").diagnose().findings[0].cause == "lr_too_high"


def test_advice_names_initial_weights_where_no_step_was_made(tmp_path: Path) -> None:
    huge = Recipe(epochs=2, init={"name": "normal", "std": 1e25}, model={"hidden": [32, 32]})
    with pytest.raises(Diverged, match="no weight was updated before, so try `init=auto") as raised:
        fit(huge, load("digits"), out=tmp_path / "run")
    assert "optimizer.lr" not in str(raised.value)
