"""Training figures are of the examples that a network has seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from danlu import Recipe, fit, load
from danlu.recipe.sample import times_drawn
from danlu.train import train

DATA = load("digits")
SAMPLES = {
    "share": ["sample.share=0.05"],
    "folds": ["sample.folds=4", "sample.fold=1"],
    "bootstrap": ["sample.bootstrap=true"],
    "both": ["sample.share=0.3", "sample.bootstrap=true"],
    "resample": ["sample.resample=true"],
    "all": [],
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_run_is_scored_on_what_it_has_seen(tmp_path: Path, name: str) -> None:
    recipe = Recipe(epochs=20).with_(SAMPLES[name])
    run = fit(recipe, DATA, out=tmp_path / "r")
    x, y = DATA.part("train")
    times = times_drawn(recipe.sample, len(y), DATA.training_labels)
    seen = torch.ones(len(y), dtype=torch.bool) if times is None else times > 0
    with torch.no_grad():
        out = run.model()(run.normalizer(x[seen]))
    assert run.result["train_n"] == int(seen.sum())
    accuracy = (out.argmax(1) == y[seen]).float().mean()
    assert run.result["train_accuracy"] == pytest.approx(float(accuracy))
    loss = torch.nn.functional.cross_entropy(out.double(), y[seen])
    assert run.result["train_loss"] == pytest.approx(float(loss), rel=1e-5)


def test_members_are_scored_as_alone(tmp_path: Path) -> None:
    recipes = [Recipe(epochs=3).with_(changes) for changes in SAMPLES.values()]
    together = train(recipes, DATA, out=tmp_path / "together").results
    for i, recipe in enumerate(recipes):
        alone = fit(recipe, DATA, out=tmp_path / str(i)).result
        for name in ("train_loss", "train_accuracy", "valid_loss", "test_loss"):
            assert together[i][name] == pytest.approx(alone[name], rel=1e-4)
