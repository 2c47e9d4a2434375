"""Cross-validation: folds, their figures, the ensemble."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold
from torch import nn

from danlu import Recipe, Study, cross_validate, fit, load
from danlu.cli import app
from danlu.errors import RecipeError, RunError
from danlu.recipe.example_sections import Sample
from danlu.recipe.sample import example_counts, left_out
from danlu.statistics import estimate_over_folds
from danlu.study.folds import Folds, continue_folds

RECIPE = Recipe(epochs=5, batch_size=16, optimizer={"lr": 0.01})


def test_folds_are_stratified_as_scikit_learn_s_are() -> None:
    labels = torch.tensor([0] * 40 + [1] * 13 + [2] * 7)
    folds = [left_out(Sample(folds=5, fold=k), 60, labels) for k in range(5)]
    assert torch.stack(folds).sum(0).eq(1).all()
    theirs = [
        np.bincount(labels[test], minlength=3)
        for _, test in StratifiedKFold(5).split(np.zeros(60), labels.numpy())
    ]
    ours = [torch.bincount(labels[fold], minlength=3).numpy() for fold in folds]
    for of_class in zip(*ours, strict=True):
        assert max(of_class) - min(of_class) <= 1
    assert np.sum(ours, 0).tolist() == np.sum(theirs, 0).tolist()
    for k, fold in enumerate(folds):
        counts = example_counts(Sample(folds=5, fold=k), 60, labels)
        assert torch.equal(counts == 0, fold)


def test_a_fold_is_trained_and_scored_as_if_alone(tmp_path: Path) -> None:
    """On data without its examples, by the same normaliser: the same validation figure."""
    data = load("iris")
    found = cross_validate(RECIPE, data, folds=4, out=tmp_path / "folds")
    merged = data.with_validation_in_training()
    assert merged.size("train") == 120
    results = found.study.results
    assert sum(result["valid_n"] for result in results) == 120
    alone = fit(found.study.recipes[2], merged, out=tmp_path / "alone")
    assert alone.result["valid_loss"] == pytest.approx(results[2]["valid_loss"], rel=1e-5)
    own = left_out(found.study.recipes[2].sample, 120, merged.training_labels)
    x = merged.x[merged.parts["train"][own]]
    y = merged.y[merged.parts["train"][own]]
    right = (alone.predict(x).values == y).float().mean()
    assert float(right) == pytest.approx(alone.result["valid_accuracy"])
    # The figure of all predictions out of fold is the mean weighted by the folds' sizes.
    pooled = sum(r["valid_accuracy"] * r["valid_n"] for r in results) / 120
    assert found.together["out_of_fold"]["accuracy"] == pytest.approx(pooled)


def test_the_ensemble_is_the_mean_of_the_networks(tmp_path: Path) -> None:
    data = load("iris")
    found = cross_validate(RECIPE, data, folds=3, out=tmp_path / "folds")
    x, y = data.part("test")
    each = torch.stack([found.study.run(k).predict(x).probabilities for k in range(3)])
    predicted = found.predict(x)
    torch.testing.assert_close(predicted.probabilities, each.mean(0))
    right = float((predicted.values == y).float().mean())
    assert found.together["ensemble"]["accuracy"] == pytest.approx(right)
    loss = -each.mean(0).log()[torch.arange(30), y].mean()
    assert found.together["ensemble"]["loss"] == pytest.approx(float(loss), rel=1e-5)
    with pytest.raises(RunError, match="`samples`"):
        found.predict(x, samples=3)
    again = Folds(Study(tmp_path / "folds"))
    assert again.sentences() == found.sentences()


def test_numbers_text_and_own_networks_are_cut_into_folds(tmp_path: Path) -> None:
    numbers = cross_validate(RECIPE, load("diabetes"), folds=3, metric="mae", out=tmp_path / "a")
    assert numbers.metric == "valid_mae"
    assert numbers.predict(load("diabetes").x[:4]).spread.shape == (4,)
    words = [f"{'good' if i % 2 else 'bad'} {i}" for i in range(60)]
    texts = load((words, ["p" if i % 2 else "n" for i in range(60)]), tokens="words")
    recipe = Recipe(epochs=2, batch_size=8, model={"name": "gru", "hidden": (4,)})
    assert len(cross_validate(recipe, texts, folds=2, out=tmp_path / "b").figures) == 2
    own = cross_validate(
        lambda: nn.Linear(4, 3), load("iris"), recipe=RECIPE, folds=2, out=tmp_path / "c"
    )
    assert own.estimate.n == 2


def test_early_stopping_goes_by_the_fold_and_a_resume_ends_alike(tmp_path: Path) -> None:
    stopping = RECIPE.with_(["early_stopping.patience=2", "epochs=30", "lr=0.1"])
    found = cross_validate(stopping, load("iris"), folds=3, out=tmp_path / "a")
    for k, result in enumerate(found.study.results):
        losses = [row["valid_loss"] for row in found.study.history(k)]
        assert result["best_epoch"] == 1 + int(np.argmin(losses))
        assert result["valid_loss"] == pytest.approx(min(losses), rel=1e-6)
    again = continue_folds(Study(tmp_path / "a", trust=True))
    assert again.figures == found.figures


def test_a_test_part_without_a_class_leaves_the_figure_undefined(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 3)).astype(np.float32), np.arange(90) % 2
    data = load({"train": (x, y), "test": (x[::2], y[::2])})
    found = cross_validate(RECIPE, data, folds=3, metric="auc", out=tmp_path / "folds")
    assert math.isnan(found.together["ensemble"]["auc"])
    again = Folds(Study(tmp_path / "folds"))
    assert "on average, and their ensemble nan" in " ".join(again.sentences())
    assert "chosen on its own fold" not in " ".join(again.sentences())
    stopping = RECIPE.with_(["early_stopping.patience=2"])
    chosen = cross_validate(stopping, data, folds=2, metric="auc", out=tmp_path / "stopping")
    assert "chosen on its own fold, which flatters" in " ".join(chosen.sentences())


def test_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    for data, folds, words in (
        (load("iris"), 1, "must be 2 to the"),
        (load("iris"), 500, "must be 2 to the"),
        (load("names"), 3, "one target each"),
    ):
        with pytest.raises(RecipeError, match=words):
            cross_validate(RECIPE, data, folds=folds, out=tmp_path / "none")
    with pytest.raises(RecipeError, match="batch normalisation"):
        cross_validate(RECIPE.with_(["model.batch_norm=after"]), load("iris"))
    with pytest.raises(RecipeError, match="must be one of accuracy"):
        cross_validate(RECIPE, load("iris"), metric="mae")
    assert not (tmp_path / "none").exists()


def test_the_interval_is_wider_than_student_s() -> None:
    """Nadeau and Bengio 2003: s²(1/K + 1/(K − 1)) for s²/K."""
    values = [0.9, 0.92, 0.95, 0.91, 0.93]
    s = np.std(values, ddof=1)
    half = 2.7764451 * s * math.sqrt(1 / 5 + 1 / 4)
    found = estimate_over_folds(values)
    assert found.high - found.mean == pytest.approx(half, rel=1e-6)


def test_the_command_shows_folds_and_predicts_by_all(tmp_path: Path, monkeypatch: Any) -> None:
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    table = "a,b,label\n" + "".join(
        f"{i % 7},{i % 5},{'x' if i % 7 > 3 else 'y'}\n" for i in range(90)
    )
    Path("table.csv").write_text(table)
    runner = CliRunner()
    done = runner.invoke(app, ["fit", "table.csv", "--folds", "3", "epochs=3", "--out", "cv"])
    assert done.exit_code == 0, done.output
    assert "Accuracy over 3 folds is" in done.output
    assert Path("cv/report.html").read_text().count("<tr>") >= 4
    done = runner.invoke(app, ["predict", "cv", "table.csv", "--json"])
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) == 90
    assert "fold" in runner.invoke(app, ["show", "cv"]).output
    ensemble = Folds(Study(tmp_path / "cv")).together["ensemble"]
    own = json.loads(runner.invoke(app, ["evaluate", "cv", "--json"]).output)
    assert own["loss"] == pytest.approx(ensemble["loss"])
    assert own["accuracy"] == pytest.approx(ensemble["accuracy"])
    other = json.loads(runner.invoke(app, ["evaluate", "cv", "table.csv", "--json"]).output)
    predicted = [json.loads(line)["class"] for line in done.output.splitlines()]
    true = [line.split(",")[2] for line in table.splitlines()[1:]]
    right = sum(a == b for a, b in zip(predicted, true, strict=True))
    assert other["examples"] == 90
    assert other["accuracy"] == pytest.approx(right / 90)


def test_a_figure_that_is_typed_is_refused_or_kept_as_typed(
    tmp_path: Path, monkeypatch: Any
) -> None:
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    lines = "".join(f"{i / 7:.2f},{i % 2}\n" for i in range(60))
    Path("table.csv").write_text("a,y\n" + lines)
    runner = CliRunner()
    refused = runner.invoke(app, ["fit", "table.csv", "--target", "y", "--metric", "mae"])
    assert "`metric` is 'mae'" in str(refused.exception)
    typed = ["early_stopping.metric=loss", "epochs=2", "--metric", "auc", "--out", "run"]
    assert runner.invoke(app, ["fit", "table.csv", "--target", "y", *typed]).exit_code == 0
    from danlu import Run

    assert Run("run").recipe.early_stopping.metric == "loss"
    assert Run("run").chosen_metric == "auc"
