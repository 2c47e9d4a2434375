"""One fault in a recipe or in data, beside what it could be mistaken for, and what only looks so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, make_classification, make_friedman1

from danlu import Data, Recipe, fit, load
from danlu.diagnosis.diagnosing import HEALTHY
from danlu.diagnosis.finding import Finding

ADAM = Recipe(
    model={"name": "dense", "hidden": (64,)},
    optimizer={"name": "adam", "lr": 0.003},
    batch_size=32,
    epochs=30,
)


def findings(data: Data, folder: Path, *edits: str) -> list[Finding]:
    run = fit(ADAM.with_(edits), data, out=folder / "run")
    return list(run.diagnose(data).findings)


def friedman() -> tuple[np.ndarray, np.ndarray]:
    x, y = make_friedman1(1500, noise=0.5, random_state=0)
    return x.astype(np.float32), y.astype(np.float32)


SICK = {
    "lr_too_low": ["optimizer=sgd", "optimizer.lr=0.001"],
    "schedule_decays_too_soon": [
        "optimizer=momentum",
        "optimizer.lr=0.02",
        "epochs=40",
        "schedule=inverse",
        "schedule.decay=30",
    ],
    "model_too_small": ["model.hidden=3", "optimizer.lr=0.01", "epochs=60"],
}


@pytest.mark.parametrize("cause", SICK)
def test_what_holds_a_network_back_is_told_apart(cause: str, tmp_path: Path) -> None:
    """All three end behind simple models, with a loss that hardly falls."""
    assert findings(load("digits"), tmp_path, *SICK[cause])[0].cause == cause


def test_large_weights_behind_a_small_first_layer_are_seen(tmp_path: Path) -> None:
    edits = ["model.hidden=100,100,100", "optimizer.lr=0.001", "init=normal", "init.std=0.8"]
    first, *_ = findings(load(friedman()), tmp_path, *edits)
    assert first.cause == "init_too_large"
    assert float(first.figures["first_layer"]) < 4 < float(first.figures["largest"])


def test_one_worse_epoch_is_no_reason_to_stop(tmp_path: Path) -> None:
    edits = ["optimizer=sgd", "optimizer.lr=0.05", "batch_size=4", "epochs=100"]
    x, y = make_classification(
        2000, 20, n_informative=15, n_classes=6, class_sep=0.7, flip_y=0, random_state=1
    )
    data = load((x.astype(np.float32), y))
    first, *_ = findings(data, tmp_path, *edits, "early_stopping.patience=1")
    assert first.cause == "stopped_too_early"


def test_numbers_of_a_handful_each_are_no_classes(tmp_path: Path) -> None:
    x, y = load_diabetes(return_X_y=True)
    data = load((x.astype(np.float32), y.astype(int)), task="classification")
    assert findings(data, tmp_path)[0].cause == "wrong_task"


def test_what_is_nearly_always_one_number_is_constant(tmp_path: Path) -> None:
    x, _ = friedman()
    y = np.full(len(x), 12.0)
    y[::120] = np.random.default_rng(0).normal(12, 1, len(y[::120]))
    first, *_ = findings(load((x, y)), tmp_path)
    assert first.cause == "constant_target"
    assert first.figures["answer"] == "12"


def test_numbers_that_are_mostly_0_are_not_constant(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((5000, 3)).astype(np.float32)
    y = np.where(x[:, 0] > 0.985, 20.0, 0.0)
    assert (y == 0).mean() > 0.98
    assert "constant_target" not in [f.cause for f in findings(load((x, y)), tmp_path)]


def test_outliers_are_no_matter_to_a_scale_that_they_do_not_touch(tmp_path: Path) -> None:
    x, y = friedman()
    x[np.random.default_rng(0).random(x.shape) < 0.003] *= 1000
    data = load((x, y))
    assert findings(data, tmp_path / "touched")[0].cause == "outliers_in_inputs"
    assert findings(data, tmp_path / "cut", "normalize=clipped")[0].cause == HEALTHY


def test_a_rare_class_among_others_is_missed_by_the_best_answer_too(tmp_path: Path) -> None:
    """Overlap alone hides a third of the rarer class: class weights would help nobody."""
    rng = np.random.default_rng(0)
    y = (rng.random(4000) < 0.12).astype(int)
    x = rng.normal(size=(4000, 6)).astype(np.float32)
    x[:, 0] += 3 * y
    found = findings(load((x, y)), tmp_path, "model.hidden=16", "epochs=8")
    assert [finding.cause for finding in found] == [HEALTHY]


def test_a_class_that_others_recognise_is_missed_for_its_rarity(tmp_path: Path) -> None:
    digits = load("digits")
    x, y = digits.x.flatten(1).numpy().astype(np.float32), digits.y.numpy()
    kept = (y != 8) | (np.arange(len(y)) % 10 == 0)
    edits = ["optimizer=sgd", "optimizer.lr=0.05", "epochs=8"]
    first, *_ = findings(load((x[kept], (y[kept] == 8).astype(int))), tmp_path, *edits)
    assert first.cause == "class_imbalance"
