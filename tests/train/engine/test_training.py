"""What a training does: learns, stops early, refuses, stops at NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from danlu import Listener, Recipe, Run, fit, load
from danlu.errors import DanluError, Diverged, ModelError, RecipeError, RunError
from danlu.train import train
from danlu.train.forward.stack import Stack


def test_every_bundled_set_is_learnt(tmp_path: Path) -> None:
    for source, least in (
        ("digits", 0.95),
        ("iris", 0.85),
        ("wine", 0.9),
        ("breast-cancer", 0.9),
        ("diabetes", 0.3),
    ):
        run = fit(Recipe.read(source), load(source), out=tmp_path / source)
        assert run.result[f"test_{run.metric}"] > least, source


@pytest.mark.data
def test_softmax_regression_reaches_the_notes_accuracy(tmp_path: Path) -> None:
    """A1: batch 256, lr 0.1, 10 epochs: training loss below 0.5, accuracies in (0.7, 1]."""
    recipe = Recipe(
        model="softmax",
        optimizer={"name": "sgd", "lr": 0.1},
        batch_size=256,
        epochs=10,
        normalize="minmax",
    )
    for source in ("mnist", "fashion-mnist-3600"):
        run = fit(
            recipe.with_(epochs=10 if source == "mnist" else 60),
            load(source),
            out=tmp_path / source,
        )
        assert run.history[-1]["train_loss"] < 0.5
        assert 0.7 < run.history[-1]["train_accuracy"] <= 1
        assert 0.7 < run.result["test_accuracy"] <= 1


def test_softmax_from_first_principles_gives_the_same_numbers(tmp_path: Path) -> None:
    runs = []
    for model, loss in (
        ("softmax", "cross-entropy"),
        ("softmax-explicit", "cross-entropy-explicit"),
    ):
        recipe = Recipe(model=model, loss=loss, optimizer="sgd", epochs=3, dtype="float64")
        runs.append(fit(recipe, load("digits"), out=tmp_path / model))
    a, b = (r.model().state_dict() for r in runs)
    for k in a:
        torch.testing.assert_close(a[k], b[k], rtol=1e-9, atol=1e-12)


def test_history_and_result_agree_with_an_evaluation_from_outside(tmp_path: Path) -> None:
    data = load("digits")
    run = fit(Recipe(epochs=4), data, out=tmp_path / "run")
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]
    model, n = run.model(), data.normalizer("zscore")
    for part in ("valid", "test"):
        x, y = data.part(part)
        out = model(n(x)).detach()
        assert float(nn.functional.cross_entropy(out, y)) == pytest.approx(
            run.result[f"{part}_loss"], rel=1e-5
        )
        assert float((out.argmax(1) == y).float().mean()) == pytest.approx(
            run.result[f"{part}_accuracy"]
        )
    assert run.history[-1]["valid_loss"] == pytest.approx(run.result["valid_loss"], rel=1e-6)
    assert run.evaluate(part="test").accuracy == run.result["test_accuracy"]


def test_early_stopping_keeps_the_best_weights(tmp_path: Path) -> None:
    recipe = Recipe(
        optimizer={"name": "adam", "lr": 0.02},
        epochs=60,
        early_stopping={"patience": 3},
        batch_size=16,
    )
    run = fit(recipe, load("digits", limit=100), out=tmp_path / "run")
    losses = [row["valid_loss"] for row in run.history]
    best = int(np.argmin(losses))
    assert len(losses) < 60
    assert len(losses) == best + 4
    assert run.result["best_epoch"] == best + 1
    assert run.evaluate(part="valid").loss == pytest.approx(losses[best], rel=1e-6)


def test_min_delta_counts_for_patience_and_the_lowest_loss_is_kept(tmp_path: Path) -> None:
    losses, best = {}, {}
    for min_delta in (0.0, 10.0):
        stopping = {"patience": 2, "min_delta": min_delta}
        recipe = Recipe(epochs=6, early_stopping=stopping, optimizer={"name": "sgd", "lr": 0.01})
        run = fit(recipe, load("iris"), out=tmp_path / str(min_delta))
        losses[min_delta] = [row["valid_loss"] for row in run.history]
        best[min_delta] = run.result["best_epoch"]
    assert losses[0.0] == sorted(losses[0.0], reverse=True), "it falls at every epoch"
    assert len(losses[0.0]) == best[0.0] == 6
    assert len(losses[10.0]) == 3
    assert best[10.0] == 3, "each is lower than the one before, if by less than 10"
    assert losses[10.0] == losses[0.0][:3]


def test_train_takes_many_recipes(tmp_path: Path) -> None:
    recipes = [Recipe(epochs=1, seed=s) for s in range(3)]
    study = train(recipes, load("iris"), out=tmp_path / "study")
    runs = [study.run(i) for i in range(3)]
    assert [r.recipe.seed for r in runs] == [0, 1, 2]
    assert len({r.path for r in runs}) == 3


def test_listener_hears_of_steps_and_epochs(tmp_path: Path) -> None:
    class Ear(Listener):
        interval = 0.0

        def __init__(self) -> None:
            self.heard: list[Any] = []

        def start(self, run: Run, steps: int, done: int) -> None:
            self.heard.append(("start", steps, done))

        def step(self, done: int, loss: float, accuracy: float) -> None:
            self.heard.append(("step", done, 0 <= accuracy <= 1))

        def epoch(self, run: Run, row: dict[str, Any]) -> None:
            self.heard.append(("epoch", row["epoch"]))

        def end(self, run: Run) -> None:
            self.heard.append("end")

    ear = Ear()
    fit(Recipe(epochs=2, batch_size=45), load("iris"), out=tmp_path / "run", listener=ear)
    assert ear.heard == [
        ("start", 4, 0),
        ("step", 1, True),
        ("step", 2, True),
        ("epoch", 1),
        ("step", 3, True),
        ("step", 4, True),
        ("epoch", 2),
        "end",
    ]


def test_batch_norm_leaves_out_a_remainder_of_one(tmp_path: Path) -> None:
    data = load("iris")  # 90 training examples: 89 + 1
    run = fit(
        Recipe(model={"name": "dense", "batch_norm": "before"}, batch_size=89, epochs=2),
        data,
        out=tmp_path / "run",
    )
    assert run.result["steps"] == 2


def test_a_run_starts_from_a_finished_run_that_fits(tmp_path: Path) -> None:
    first = fit(Recipe(epochs=5), load("digits"), out=tmp_path / "a")
    again = fit(
        Recipe(epochs=1, init={"weights": str(tmp_path / "a")}, optimizer={"lr": 1e-5}),
        load("digits"),
        out=tmp_path / "b",
    )
    assert again.history[0]["train_loss"] < 1.2 * first.history[-1]["train_loss"] + 0.05
    with pytest.raises(
        ModelError,
        match=r"does not fit this network: 3 of its 4 weights differ or are missing there, 2 weights of that file are not in it: "
        r"`dense1.weight` is \(64, 64\) instead of \(32, 64\)",
    ):
        fit(
            Recipe(model={"name": "dense", "hidden": (32,)}, init={"weights": str(tmp_path / "a")}),
            load("digits"),
        )


def test_divergence_names_step_layer_and_cures(tmp_path: Path) -> None:
    recipe = Recipe(optimizer={"name": "sgd", "lr": 1e30}, normalize="none", epochs=3)
    with pytest.raises(Diverged) as caught:
        fit(recipe, load("digits"), out=tmp_path / "run")
    assert caught.value.step > 0
    assert "`clip.norm=1`" in str(caught.value)
    assert "`normalize=zscore`" in str(caught.value)
    run = Run(tmp_path / "run")
    assert run.status == "diverged"
    assert run.info["layer"] == caught.value.layer


class Explodes(nn.Module):
    """Sick on purpose: `boom` divides by zero for inputs it meets in training."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.boom, self.last = nn.Linear(4, 4), Boom(), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.boom(self.first(x)))


class Boom(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 0 if self.training else x


def test_the_layer_where_divergence_began_is_found(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"at step 0 .* the output of layer `boom`") as caught:
        fit(Recipe(model=f"{__name__}:Explodes"), load("iris"), out=tmp_path / "run")
    assert (caught.value.step, caught.value.layer) == (0, "boom")


@pytest.mark.parametrize(
    ("source", "fields", "sentence"),
    [
        (
            "iris",
            {"batch_size": 91},
            "`batch_size` is 91, but must be at most the 90 training examples; try 64",
        ),
        ("iris", {"augment": {"flip": True}}, "`augment.flip` is True, but needs pictures"),
        ("iris", {"model": "cnn"}, "needs pictures"),
        (
            "digits",
            {"model": {"name": "cnn", "channels": (4,) * 4}},
            "`pool4` needs an input of at least 2×2, but gets 1×1 from images of 8×8",
        ),
        (
            "diabetes",
            {"loss": {"label_smoothing": 0.1}},
            "`loss.label_smoothing` is 0.1, but needs classes",
        ),
        (
            "iris",
            {"loss": {"label_smoothing": 0.67}},
            "`loss.label_smoothing` is 0.67, but must be less than 0.6667",
        ),
        (
            "diabetes",
            {"loss": "cross-entropy"},
            "must be auto, squared-error, huber, absolute-error or a function of yours",
        ),
        ("digits", {"loss": "squared-error"}, "must be auto, cross-entropy"),
        (
            "digits",
            {"augment": {"crop": 9}},
            "`augment.crop` is 9, but must be less than the side 8",
        ),
    ],
)
def test_recipes_that_do_not_fit_the_data_are_refused(
    source: str, fields: dict[str, Any], sentence: str, runs_folder: Path
) -> None:
    with pytest.raises(DanluError) as caught:
        fit(Recipe(**fields), load(source))
    assert sentence in str(caught.value)
    assert not runs_folder.exists()


def test_several_mistakes_come_at_once_and_a_validation_part_is_optional(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        fit(Recipe(batch_size=200, early_stopping={"patience": 2}), load("iris", valid=False))
    assert len(caught.value.mistakes) == 2
    with pytest.raises(RecipeError) as caught:
        fit(Recipe(model={"name": "cnn", "channels": (4,) * 4}, batch_size=5000), load("digits"))
    assert [m.split()[0] for m in caught.value.mistakes] == ["`batch_size`", "`pool4`"]
    run = fit(Recipe(epochs=1), load("iris", valid=False), out=tmp_path / "run")
    assert "valid_loss" not in run.history[0]


def test_bad_folders_and_devices_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(RunError, match="exists and is not empty"):
        fit(Recipe(), load("iris"), out=tmp_path / "full")
    with pytest.raises(RunError, match="`device` is 'tpu'"):
        fit(Recipe(), load("iris"), device="tpu")


def test_a_stack_is_made_on_its_device() -> None:
    """Every tensor of every network, the first's and the others'; "meta" stands for a GPU here."""
    device = torch.device("meta")
    stack = Stack([nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(3)], device)
    assert {v.device for v in stack.tensors.values()} == {device}
    assert stack.tensors["0.weight"].shape == (3, 4, 3)
