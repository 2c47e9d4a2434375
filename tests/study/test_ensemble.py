"""Ensembles: the mean of networks, what it gains, and how it is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults.spoiling import say

from danlu import Data, Ensemble, Recipe, Study, compare, ensemble, fit, load, resume
from danlu.errors import Interrupted, RecipeError, RunError
from danlu.train import StudyListener, train

RECIPE = Recipe(model={"name": "dense", "hidden": (16,)}, optimizer={"lr": 0.003}, epochs=4)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits", limit=500)


@pytest.fixture(scope="module")
def five(digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    return ensemble(RECIPE, digits, members=5, out=tmp_path_factory.mktemp("e") / "study")


def test_it_is_the_mean_of_networks_trained_alone(
    five: Ensemble, digits: Data, tmp_path: Path
) -> None:
    x, y = digits.part("test")
    probabilities = []
    for seed in range(5):
        run = fit(RECIPE.with_(seed=seed), digits, out=tmp_path / str(seed))
        probabilities.append(run.predict(x).probabilities)
    mean = torch.stack(probabilities).mean(0)
    torch.testing.assert_close(five.predict(x).probabilities, mean, atol=1e-4, rtol=1e-4)
    reached = float((mean.argmax(1) == y).double().mean())
    assert five.evaluate(digits).accuracy == pytest.approx(reached, abs=0.003)
    assert five.together["accuracy"] == five.evaluate(digits).accuracy


def test_the_gain_is_that_over_the_mean_network_by_example(five: Ensemble, digits: Data) -> None:
    x, y = digits.part("test")
    hits = np.stack([(run.predict(x).values == y).numpy() for run in five.runs]).mean(0)
    gains = (five.predict(x).values == y).numpy() - hits
    half = 1.9665 * gains.std(ddof=1) / np.sqrt(len(gains))
    found = five.gains["accuracy"]
    assert found.mean == pytest.approx(gains.mean())
    assert found.low == pytest.approx(gains.mean() - half, rel=1e-3)
    assert found.mean == pytest.approx(five.together["accuracy"] - five.mean["accuracy"])
    assert five.gains["loss"].low > 0  # by Jensen's inequality it cannot be a loss


def test_numbers_are_averaged_too(tmp_path: Path) -> None:
    data = load("diabetes")
    found = ensemble(RECIPE, data, members=3, out=tmp_path / "e")
    x, _ = data.part("test")
    alone = torch.stack([run.predict(x).values for run in found.runs])
    torch.testing.assert_close(found.predict(x).values, alone.mean(0))
    gap = found.together["r2"] - found.mean["r2"]
    assert found.gains["r2"].mean == pytest.approx(gap, rel=1e-3)


def test_the_best_of_a_study_are_taken_by_the_validation_part(digits: Data, tmp_path: Path) -> None:
    compared = compare(digits, {"optimizer.lr": [0.003, 1e-6]}, recipe=RECIPE, seeds=3,
                       out=tmp_path / "c")  # fmt: skip
    found = ensemble(compared.study, members=3)
    assert sorted(found.members) == [0, 2, 4]  # those of the rate that learns
    assert Ensemble(Study(tmp_path / "c")).members == found.members
    with pytest.raises(RunError, match="must be at most the 6 networks"):
        ensemble(compared.study, members=7)


def test_a_cut_one_goes_on(five: Ensemble, digits: Data, tmp_path: Path) -> None:
    class Stops(StudyListener):
        def ended(self, member: int, status: str, result: dict[str, Any]) -> None:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        ensemble(RECIPE, digits, members=5, out=tmp_path / "cut", listener=Stops())
    found = resume(tmp_path / "cut")
    assert isinstance(found, Ensemble)
    assert found.together == five.together


def test_bad_input_is_refused_in_sentences(digits: Data, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`members` is 1, but must be a whole number, 2 to"):
        ensemble(RECIPE, digits, members=1)
    with pytest.raises(RecipeError, match="examples with one target each"):
        ensemble(Recipe.read("tagging"), load("names", limit=40))
    study = train([RECIPE], digits, out=tmp_path / "one")
    with pytest.raises(RunError, match="has no ensemble; danlu ensemble one"):
        Ensemble(study)
    broken = RECIPE.with_(["optimizer=sgd", "optimizer.lr=1e30"])
    with pytest.raises(RunError, match="diverged, which leaves nothing to average"):
        ensemble(broken, load("diabetes"), members=2, out=tmp_path / "d")


def test_the_command_trains_predicts_and_evaluates(tmp_path: Path) -> None:
    out = tmp_path / "e"
    said = say("ensemble", "iris", "epochs=3", "batch_size=16", "--members", "3", "--out", out)
    assert said.code == 0
    assert "their mean" in said.out
    assert "together" in said.out
    assert (out / "report.html").is_file()
    assert json.loads(say("show", out, "--json").out)["members"] == [0, 1, 2]
    plain = json.loads(say("evaluate", out, "--json").out)
    assert plain["accuracy"] == Ensemble(Study(out)).together["accuracy"]
    assert say("ensemble", out, "lr=1").code == 2
    again = say("ensemble", out, "--members", "2")
    assert again.code == 0
    assert len(Ensemble(Study(out)).members) == 2


def test_a_study_that_may_go_on_is_not_ended_by_its_ensemble(tmp_path: Path) -> None:
    """A treatment stopped between two trainings: everything so far is trained, and it is not over."""
    from danlu import treat
    from danlu.study.treating.course import Course

    data = load("digits", limit=300)
    sick = fit(RECIPE.with_(["optimizer.lr=0.4"]), data, out=tmp_path / "sick")
    before = Course._confirm
    try:
        Course._confirm = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
        with pytest.raises(Interrupted, match="danlu resume"):
            treat(sick, seeds=2, rounds=1, out=tmp_path / "t")
    finally:
        Course._confirm = before  # type: ignore[method-assign]
    with pytest.raises(RunError, match="is not finished"):
        ensemble(Study(tmp_path / "t"), members=2)
    assert resume(tmp_path / "t").helped
