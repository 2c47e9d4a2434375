"""Bias and variance: the formulas, and networks that have solutions in closed form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults.spoiling import say

from danlu import BiasVariance, Recipe, Study, decompose, load, resume
from danlu.data.target_scale import standardised
from danlu.errors import Interrupted, RecipeError, RunError
from danlu.recipe.sample import resampled
from danlu.statistics import estimate, jackknife_half_width
from danlu.study.decomposing.bias_variance import equal_inputs, squared, zero_one
from danlu.train import StudyListener

SMALL = Recipe(model={"name": "dense", "hidden": (4,)}, batch_size=16, epochs=2)


def linear_data(n: int = 200, noise: float = 0.5) -> Any:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    y = x @ [1.0, -2.0, 0.5] + 0.3 * x[:, 0] ** 2 + noise * rng.normal(size=n)
    return load((x, y), task="regression")


@pytest.mark.parametrize("penalty", [0.0, 40.0])
def test_linear_and_ridge_regression_equal_their_closed_form(
    penalty: float, tmp_path: Path
) -> None:
    """Each bootstrap's least squares, solved by NumPy, and decomposed by the plain formulas."""
    data = linear_data()
    n = data.size("train")
    recipe = Recipe(
        model="softmax",
        optimizer={"name": "sgd", "lr": 0.2},
        batch_size=n,
        epochs=300,
        penalty={"l2": penalty},
        dtype="float64",
    )
    found = decompose(recipe, data, replicates=12, out=tmp_path / "d")
    normalizer = data.normalizer("zscore").to("cpu", torch.float64)
    x, held = (normalizer(data.part(p)[0]).numpy() for p in ("train", "valid"))
    y, want = (
        standardised(data.part(p)[1], data.schema).double().numpy() for p in ("train", "valid")
    )
    mean, std = data.schema.scale
    design = np.column_stack([x, np.ones(n)])
    predictions = []
    for recipe_of in found.study.recipes:
        drawn = resampled(recipe_of.sample, n)
        counts = np.bincount(drawn.numpy(), minlength=n)
        weighted = design * counts[:, None]
        shrink = penalty / 2 * np.diag([1.0, 1.0, 1.0, 0.0])
        solution = np.linalg.solve(weighted.T @ design + shrink, weighted.T @ y)
        predictions.append(np.column_stack([held, np.ones(len(held))]) @ solution * std + mean)
    p, t = np.array(predictions), want * std + mean
    loss, variance = ((p - t) ** 2).mean(), p.var(0, ddof=1).mean()
    bias = ((p.mean(0) - t) ** 2).mean() - variance / 12
    (parts,) = found.of("squared")
    assert parts.loss.mean == pytest.approx(loss, rel=1e-4)
    assert parts.variance.mean == pytest.approx(variance, rel=1e-3)
    assert parts.bias.mean == pytest.approx(bias, rel=1e-3)


def test_the_variance_of_least_squares_is_that_of_theory() -> None:
    """σ²·p/(n − p − 1), over Gaussian designs drawn anew: the formulas alone, no network."""
    rng = np.random.default_rng(1)
    n, p, sigma, beta = 30, 4, 0.7, np.array([1.0, -1.0, 2.0, 0.0])
    test = rng.normal(size=(2000, p))
    predictions = []
    for _ in range(400):
        x = rng.normal(size=(n, p))
        y = x @ beta + sigma * rng.normal(size=n)
        predictions.append(test @ np.linalg.lstsq(x, y, rcond=None)[0])
    parts = squared(np.array(predictions), test @ beta)
    assert parts.variance.mean == pytest.approx(sigma**2 * p / (n - p - 1), rel=0.06)
    assert abs(parts.bias.mean) < 0.003
    assert parts.loss.mean == pytest.approx(parts.bias.mean + parts.variance.mean, rel=0.01)


def test_zero_one_loss_by_hand() -> None:
    predictions = np.array([[0, 1, 2, 1], [0, 1, 0, 2], [0, 0, 2, 0]])
    parts = zero_one(predictions, np.array([0, 1, 0, 2]))
    assert parts.loss.mean == pytest.approx((0 + 1 / 3 + 2 / 3 + 2 / 3) / 4)
    assert parts.bias.mean == pytest.approx(2 / 4)  # the third, and the fourth by the first of ties
    assert parts.variance.mean == pytest.approx((0 + 1 / 3 + 1 / 3 + 2 / 3) / 4)
    assert parts.net.mean == pytest.approx(parts.loss.mean - parts.bias.mean)


def test_noise_is_known_where_inputs_come_again() -> None:
    rng = np.random.default_rng(2)
    x = np.repeat(rng.normal(size=(300, 2)), 2, axis=0)
    truth = x[:, 0]
    y = truth + 0.5 * rng.normal(size=600)
    predictions = truth + 1.0 + 0.2 * rng.normal(size=(50, 600))
    groups = equal_inputs(x)
    assert groups is not None
    parts = squared(predictions, y, groups)
    assert parts.noise == pytest.approx(0.25, rel=0.15)
    assert parts.bias.mean == pytest.approx(1.0, rel=0.1)
    assert parts.variance.mean == pytest.approx(0.04, rel=0.1)
    assert equal_inputs(rng.normal(size=(50, 2))) is None


def test_larger_networks_have_less_bias(tmp_path: Path) -> None:
    data = load("digits", limit=300)
    recipe = SMALL.with_(["epochs=15", "optimizer.lr=0.01"])
    found = decompose(recipe, data, ["model.hidden=[1],[64]"], replicates=6, out=tmp_path / "d")
    small, large = found.of("squared")
    assert large.bias.mean < 0.5 * small.bias.mean
    assert found.names == ["model.hidden=[1]", "model.hidden=[64]"]
    assert "lowest expected loss is that of model.hidden=[64]" in str(found)


@pytest.mark.parametrize(
    ("vary", "seeds", "samples"), [("data", 1, 4), ("seed", 4, 1), ("both", 4, 4)]
)
def test_what_varies_is_what_was_asked_for(
    vary: str, seeds: int, samples: int, tmp_path: Path
) -> None:
    found = decompose(SMALL, load("iris"), replicates=4, vary=vary, out=tmp_path / "d")
    recipes = found.study.recipes
    assert len({r.seed for r in recipes}) == seeds
    assert len({r.sample.seed for r in recipes}) == samples
    assert all(r.sample.resample == (vary != "seed") for r in recipes)


def test_shares_are_drawn_anew(tmp_path: Path) -> None:
    grid = ["sample.share=0.2,0.8"]
    found = decompose(SMALL, load("iris"), grid, replicates=3, out=tmp_path / "d")
    assert not any(r.sample.resample for r in found.study.recipes)
    assert len({r.sample.seed for r in found.study.recipes}) == 3


def test_a_cut_one_goes_on(tmp_path: Path) -> None:
    class Stops(StudyListener):
        def ended(self, member: int, status: str, result: dict[str, Any]) -> None:
            raise KeyboardInterrupt

    data = load("iris")
    whole = decompose(SMALL, data, replicates=4, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        decompose(SMALL, data, replicates=4, out=tmp_path / "cut", listener=Stops())
    found = resume(tmp_path / "cut")
    assert isinstance(found, BiasVariance)
    same = [{k: v for k, v in f.to_json().items() if k != "study"} for f in (whole, found)]
    assert same[0] == same[1]


def test_bad_input_is_refused_in_sentences(tmp_path: Path) -> None:
    data = load("iris")
    with pytest.raises(RecipeError) as caught:
        decompose(SMALL, data, ["model.hidden=[2],[2]"], replicates=1, vary="weather", part="train")
    for told in ("`replicates` is 1", "`vary` is 'weather'", "`part` is 'train'", "more than once"):
        assert told in str(caught.value)
    with pytest.raises(RecipeError, match="one target each"):
        decompose(Recipe.read("tagging"), load("names", limit=40))
    with pytest.raises(RecipeError, match="these are 5,000 trainings"):
        decompose(SMALL, data, replicates=5000)
    broken = SMALL.with_(["optimizer=sgd", "optimizer.lr=1e30"])
    with pytest.raises(RunError, match="leaves nothing to measure"):
        decompose(broken, load("diabetes"), replicates=2, out=tmp_path / "d")


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "d"
    said = say("decompose", "iris", "model.hidden=[2],[8]", "epochs=2", "batch_size=16",
               "--replicates", "3", "--out", out)  # fmt: skip
    assert said.code == 0
    assert "0–1 loss" in said.out
    assert "squared loss" in said.out
    plain = json.loads(say("show", out, "--json").out)
    assert [v["variant"] for v in plain["variants"]] == ["model.hidden=[2]", "model.hidden=[8]"]
    assert (out / "report.html").is_file()
    assert BiasVariance(Study(out)).replicates == 3


@pytest.mark.parametrize("kind", ["squared", "0-1"])
def test_leaving_out_each_training_set_equals_doing_so(kind: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40)
    p = rng.dirichlet([1, 1, 1], (6, 40))
    one_hot = np.eye(3)[y]
    decompose_ = (lambda q: squared(q, one_hot)) if kind == "squared" else (lambda q: zero_one(q.argmax(2), y))  # fmt: skip
    found = decompose_(p)
    for name in ("loss", "bias", "variance"):
        part = getattr(found, name)
        without = [getattr(decompose_(np.delete(p, k, 0)), name).mean for k in range(6)]
        over_sets = jackknife_half_width(without)
        alone = estimate(_by_example(kind, p, y, name))
        expected = np.hypot((alone.high - alone.low) / 2, over_sets)
        assert (part.high - part.low) / 2 == pytest.approx(expected)


def _by_example(kind: str, p: np.ndarray, y: np.ndarray, name: str) -> list[float]:
    if kind == "squared":
        loss = ((p - np.eye(3)[y]) ** 2).sum(2).mean(0)
        variance = p.var(0, ddof=1).sum(1)
        bias = ((p.mean(0) - np.eye(3)[y]) ** 2).sum(1) - variance / len(p)
    else:
        chosen = p.argmax(2)
        main = np.array([np.bincount(c, minlength=3).argmax() for c in chosen.T])
        loss, bias = (chosen != y).mean(0), (main != y).astype(float)
        variance = (chosen != main).mean(0)
    return {"loss": loss, "bias": bias, "variance": variance}[name].tolist()


def test_intervals_hold_the_truth_over_examples_and_training_sets() -> None:
    """Predictions of a biased mean with noise of each set: what is drawn anew is all of it."""
    rng = np.random.default_rng(1)
    hits = {"loss": 0, "bias": 0, "variance": 0}
    truth = {"loss": 0.5**2 + 0.1**2 + 0.3**2 + 0.4**2, "bias": 0.5**2 + 0.1**2, "variance": 0.3**2 + 0.4**2}  # fmt: skip
    for _ in range(60):
        # A set shifts all its predictions alike, so examples alone would not show it.
        of_set = rng.normal(0, 0.4, (15, 1))
        p = 0.5 + rng.normal(0, 0.1, 60) + of_set + rng.normal(0, 0.3, (15, 60))
        found = squared(p, np.zeros(60))
        for name in hits:
            part = getattr(found, name)
            hits[name] += part.low <= truth[name] <= part.high
    assert min(hits.values()) >= 51


def test_intervals_of_zero_one_loss_hold_the_truth() -> None:
    """Each set answers each example right with a chance of its own, above a half."""
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(60):
        chance = rng.uniform(0.6, 0.95, 80)
        p = (rng.random((20, 80)) < chance).astype(int)
        found = zero_one(p, np.ones(80, int))
        # The expected loss over examples drawn likewise.
        hits += found.loss.low <= 1 - 0.775 <= found.loss.high
    assert hits >= 51


def test_members_show_what_they_reached_on_its_part(tmp_path: Path) -> None:
    decompose(SMALL, load("iris"), replicates=2, out=tmp_path / "d")
    said = say("show", f"{tmp_path / 'd'}:0")
    assert said.code == 0
    assert "validation" in said.out
