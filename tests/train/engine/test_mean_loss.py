"""One definition of the mean: an epoch's batches have the gradient of the whole training part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sequences import data_of
from torch import Tensor

from danlu import Data, Recipe, fit, load
from danlu.recipe.build import build_model
from danlu.train.batches import BatchStream
from danlu.train.dispatch.fit import make_population

RARE = 0.02  # share of a class


def unequal() -> Data:
    """Return three classes of 60, 30 and 7 examples of five numbers."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [60, 30, 7])
    x = rng.normal(size=(97, 5)).astype(np.float32) + y[:, None]
    return load((x, y), split=(1.0, 0.0))


CASES: dict[str, list[str]] = {
    "plain": [],
    "balanced": ["loss.class_weights=balanced"],
    "numbers": ["loss.class_weights=1,3,20"],
    "sample": ["sample.bootstrap=true", "sample.share=0.7"],
    "both": ["sample.folds=3", "sample.fold=1", "loss.class_weights=balanced"],
    "focal": ["loss=focal", "loss.class_weights=1,3,20"],
}


def gradients(recipes: list[Recipe], data: Data) -> list[tuple[float, Tensor, Tensor]]:
    """Return (share of the examples, losses [M], gradients) of each step of an epoch."""
    device = torch.device("cpu")
    batches = BatchStream(recipes, data, device)

    def build(recipe: Recipe) -> Any:
        return build_model(recipe, data.schema)

    population = make_population(recipes, build, data, batches, device)
    found = []
    counts = population.networks.counts
    for step in batches.epoch(population.recipes, [0] * len(recipes), 0, counts):
        # Without an update: all gradients are those of the same weights.
        population.apply_update = lambda examples, k: None
        result = population.step(step, 0)
        share = result.examples / data.size("train")
        found.append((share, result.losses.clone(), population.stack.grad.clone()))
    return found


def whole(steps: list[tuple[float, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the mean loss and gradient of an epoch, batches counted by their examples."""
    return sum(s * loss for s, loss, _ in steps), sum(s * g for s, _, g in steps)


@pytest.mark.parametrize("case", sorted(CASES))
def test_batches_have_the_full_gradient_for_their_mean(case: str) -> None:
    data = unequal()
    base = Recipe(model="dense", dtype="float64", batch_size=97).with_(CASES[case])
    twins = [base, base.with_(["seed=1"])]
    want = whole(gradients(twins, data))
    for size in (1, 4, 16, 96):
        small = [recipe.with_([f"batch_size={size}"]) for recipe in twins]
        loss, gradient = whole(gradients(small, data))
        torch.testing.assert_close(loss, want[0])
        torch.testing.assert_close(gradient, want[1])


@pytest.mark.parametrize("crf", [False, True])
def test_padding_takes_no_part_in_the_mean(crf: bool, request: pytest.FixtureRequest) -> None:
    """Sentences of different lengths share batches or not: a token counts the same."""
    data = data_of("tagged", request)
    model = {"name": "gru", "hidden": (5,), "embedding": 4, "crf": crf}
    n = data.size("train")
    base = Recipe(model=model, dtype="float64", batch_size=n)
    twins = [base, base.with_(["seed=1"])]
    want = whole(gradients(twins, data))
    small = [recipe.with_(["batch_size=3"]) for recipe in twins]
    loss, gradient = whole(gradients(small, data))
    torch.testing.assert_close(loss, want[0])
    torch.testing.assert_close(gradient, want[1])


def rare_class() -> Data:
    """Return a class of 2 % and nothing to tell it by."""
    y = (np.arange(1000) < 1000 * RARE).astype(int)
    return load((np.zeros((1000, 1), np.float32), y), split=(1.0, 0.0))


@pytest.mark.parametrize("fields", [["loss.class_weights=balanced"], ["sample.balanced=true"]])
@pytest.mark.parametrize("batch_size", [1000, 64, 16, 4])
def test_balance_does_not_fade_with_the_batch_size(
    fields: list[str], batch_size: int, tmp_path: Any
) -> None:
    """p(rare) is 1/2 with nothing else to learn; divided by the batch's own weights 0.07 at 4."""
    recipe = Recipe(
        model="softmax",
        optimizer={"name": "sgd", "lr": 0.5},
        schedule="cosine",
        batch_size=batch_size,
        epochs=400 if batch_size == 1000 else 10,
        normalize="none",
        average={"name": "swa", "start": 0.5},
    ).with_(fields)
    if batch_size < 1000:
        recipe = recipe.with_([f"lr={0.003 * batch_size / 4:g}"])
    run = fit(recipe, rare_class(), out=tmp_path / "run")
    p = run.predict(np.zeros((1, 1), np.float32)).probabilities
    assert float(p[0, 1]) == pytest.approx(0.5, abs=0.06)
