"""The figure that counts, its interval, and what is not called nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from danlu import Recipe, compare, fit, load
from danlu.diagnosis import verdict
from danlu.diagnosis.usable import what_is_shown
from danlu.errors import RecipeError
from danlu.metrics import Predicted, compute
from danlu.statistics import auc_interval, confusion_interval


def rare(n: int = 2000, gap: float = 1.5, share: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Two classes of which one is rare, and no threshold finds it surely."""
    rng = np.random.default_rng(0)
    y = (rng.random(n) < share).astype(int)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    x[:, 0] += gap * y
    return x, y


def test_a_rare_class_that_is_told_apart_is_not_called_nothing(tmp_path: Path) -> None:
    """Accuracy is that of the constant answer; loss and ranking are far better."""
    recipe = Recipe(model="softmax", epochs=30, optimizer={"lr": 0.01})
    run = fit(recipe, load(rare()), out=tmp_path / "run")
    words = " ".join(verdict(run))
    assert run.chosen_metric == "auc"
    assert run.result["test_auc"] > 0.8
    assert words.startswith("Test AUC is 0.")
    assert "what counts is AUC; --metric accuracy decides otherwise" in words
    assert "not shown to be better than the constant answer. Its probabilities are better" in words
    assert "nothing usable" not in words
    asked = fit(recipe, load(rare()), out=tmp_path / "asked", metric="accuracy")
    assert verdict(asked)[0].startswith("Test accuracy")
    assert "test_auc" not in asked.result


def test_weighted_probabilities_are_judged_by_their_ranks(tmp_path: Path) -> None:
    """Balanced weights spoil the loss on purpose, and the accuracy with it."""
    recipe = Recipe(model="softmax", epochs=30, optimizer={"lr": 0.01})
    balanced = recipe.with_(["loss.class_weights=balanced"])
    run = fit(balanced, load(rare(gap=0.7)), out=tmp_path / "run", metric="accuracy")
    words = " ".join(verdict(run))
    assert "from the rest all the same: AUC is 0.6" in words


def test_a_single_class_that_is_told_apart_is_named() -> None:
    """The mean over classes may be below chance where one class is told apart, and others are not."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 40)
    of_each = np.array([[0.5, 0.4, 0.1], [0.3, 0.01, 0.69], [0.3, 0.4, 0.3]])
    p = of_each[y] + 1e-3 * rng.random((120, 3))
    predicted = Predicted(y, p.argmax(1), p / p.sum(1, keepdims=True))
    assert compute(["auc"], predicted)["auc"] < 0.6
    said = what_is_shown(predicted, [40, 40, 40], ["a", "b", "c"])
    assert said is not None and said.startswith("It tells 'a' from the rest")
    assert float(said.split("AUC is ")[1].split(" ")[0]) > 0.5


def test_what_has_learnt_nothing_is_called_so(tmp_path: Path) -> None:
    x, y = rare(gap=0.0, share=0.3)
    run = fit(Recipe(epochs=2), load((x, y)), out=tmp_path / "run")
    words = " ".join(verdict(run))
    assert "nor are loss and ranking: the network has learnt nothing usable" in words


def test_auc_s_interval_is_about_that_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    is_positive = np.arange(300) < 60
    scores = rng.normal(size=300) + is_positive
    low, high = auc_interval(is_positive, scores)
    p = np.stack([1 - scores, scores], 1)
    drawn = []
    for _ in range(500):
        rows = rng.integers(0, 300, 300)
        drawn.append(compute(["auc"], Predicted(is_positive[rows].astype(int), rows, p[rows])))
    ends = np.quantile([d["auc"] for d in drawn], [0.025, 0.975])
    np.testing.assert_allclose([low, high], ends, atol=0.015)
    assert all(np.isnan(auc_interval(is_positive, is_positive.astype(float))))  # no spread at all


@pytest.mark.parametrize("name", ["macro_f1", "balanced_accuracy"])
def test_intervals_of_confusions_are_about_those_of_drawn_examples(name: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    chosen = np.where(rng.random(200) < 0.7, y, rng.integers(0, 3, 200))
    pairs = np.bincount(y * 3 + chosen, minlength=9).reshape(3, 3)
    low, high = confusion_interval(pairs, balanced=name == "balanced_accuracy")
    drawn = []
    for _ in range(500):
        rows = rng.integers(0, 200, 200)
        drawn.append(compute([name], Predicted(y[rows], chosen[rows]))[name])
    np.testing.assert_allclose([low, high], np.quantile(drawn, [0.025, 0.975]), atol=0.02)


def test_early_stopping_and_comparisons_go_by_the_figure_that_is_asked_for(tmp_path: Path) -> None:
    data = load(rare())
    recipe = Recipe(epochs=12, optimizer={"lr": 0.01}).with_(
        ["early_stopping.patience=20", "early_stopping.metric=roc-auc"]
    )
    run = fit(recipe, data, out=tmp_path / "run")
    curve = [row["valid_auc"] for row in run.history]
    assert run.result["best_epoch"] == 1 + int(np.argmax(curve))
    assert run.result["valid_auc"] == pytest.approx(max(curve))
    assert "the best on validation by AUC" in " ".join(verdict(run))

    found = compare(
        data,
        {"early_stopping.metric": ["loss", "auc", "accuracy"]},
        recipe=recipe,
        seeds=2,
        metric="average_precision",
        out=tmp_path / "study",
    )
    assert found.metric == "valid_average_precision"
    assert all(np.isfinite(figures).all() for figures in found.figures)
    one = found.study.results[1]
    assert one["valid_auc"] == pytest.approx(
        max(row["valid_auc"] for row in found.study.history(1)), rel=1e-6
    )
    unasked = compare(data, {"optimizer.lr": [0.1, 0.01]}, seeds=2, out=tmp_path / "unasked")
    assert unasked.metric == "valid_auc"
    assert "Classes are imbalanced" in unasked.sentences()[0]


def test_a_figure_that_a_task_has_not_is_a_sentence(tmp_path: Path) -> None:
    data = load("diabetes")
    for act in (
        lambda: fit(Recipe(), data, metric="auc", out=tmp_path / "a"),
        lambda: fit(Recipe(early_stopping={"patience": 3, "metric": "auc"}), data),
        lambda: compare(data, {"optimizer.lr": [0.1, 0.01]}, metric="auc"),
    ):
        with pytest.raises(RecipeError, match="must be one of"):
            act()
    with pytest.raises(RecipeError, match="did you mean 'macro_f1'"):
        Recipe(early_stopping={"metric": "macrof1"})
    run = fit(Recipe(epochs=2), data, metric="mean_absolute_error", out=tmp_path / "mae")
    assert verdict(run)[0].startswith("Test mean absolute error is ")
