"""Weights that a training starts from are held against what they were when it was made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from folders import reseal
from processes import StopAt

from danlu import Recipe, fit, load, resume
from danlu.errors import Interrupted, RunError
from danlu.files import read_tensors, write_tensors
from danlu.train import resume_study, train
from danlu.train.dispatch.fit import _create


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    fit(Recipe(epochs=1), load("iris"), out=tmp_path / "start")
    return Recipe(epochs=2, init={"weights": str(tmp_path / "start")})


def change(start: Path) -> None:
    file = start / "weights.safetensors"
    write_tensors(file, {k: v + 1 for k, v in read_tensors(file).items()})
    reseal(start)


def test_a_run_without_a_checkpoint_starts_from_the_same_weights_or_not_at_all(
    recipe: Recipe, tmp_path: Path
) -> None:
    data = load("iris")
    through = fit(recipe, data, out=tmp_path / "through").model().state_dict()
    for name in ("same", "other"):
        _create(recipe, data, tmp_path / name, "cpu")  # as if it were killed before its first step
    again = resume(tmp_path / "same").model().state_dict()
    assert all(torch.equal(v, again[k]) for k, v in through.items())
    change(tmp_path / "start")
    with pytest.raises(
        RunError,
        match=r"the weights of '.*start', which '.*other' starts from, have changed; train it anew",
    ):
        resume(tmp_path / "other")


def test_a_saved_run_does_not_need_its_initial_weights(recipe: Recipe, tmp_path: Path) -> None:
    through = fit(recipe, load("iris"), out=tmp_path / "through").model().state_dict()
    with pytest.raises(Interrupted):
        fit(recipe, load("iris"), out=tmp_path / "stopped", listener=StopAt(2))
    change(tmp_path / "start")
    again = resume(tmp_path / "stopped").model().state_dict()
    assert all(torch.equal(v, again[k]) for k, v in through.items())


def test_a_study_refuses_initial_weights_that_changed(recipe: Recipe, tmp_path: Path) -> None:
    from danlu.train.dispatch.train import create

    study = create([recipe, recipe.with_(seed=1)], load("iris"), tmp_path / "study")
    change(tmp_path / "start")
    with pytest.raises(RunError, match=r"have changed; train it anew"):
        resume_study(study.path)
    assert train([recipe], load("iris"), out=tmp_path / "fresh").status == "finished"
