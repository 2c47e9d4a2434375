"""A network's update has the same bits whatever company it is in: sizes, places, other rates."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from danlu import Recipe
from danlu.data import Schema
from danlu.optim.optimizers import OPTIMIZERS
from danlu.recipe.build import build_model
from danlu.train.engine.optimizer_step import OptimizerStep
from danlu.train.forward.stack import Stack

SCHEMA = Schema("classification", (1, 14, 14), classes=tuple("abc"))
EXTRAS = {
    "plain": [],
    "decay, penalties, schedule": [
        "optimizer.weight_decay=0.01",
        "penalty.l2=0.3",
        "penalty.l1=0.1",
        "schedule=cosine",
        "clip.value=2.0",
    ],
}


def updated(recipes: Sequence[Recipe], steps: int = 40) -> list[dict[str, Tensor]]:
    """Return the parameters of each network after updates by gradients of its own."""
    stack = Stack([build_model(recipe, SCHEMA) for recipe in recipes], torch.device("cpu"))
    update = OptimizerStep(stack, recipes, [100] * len(recipes), 10, [0] * len(recipes))
    for k in range(steps):
        for i, recipe in enumerate(recipes):
            generator = torch.Generator().manual_seed(1000 * recipe.seed + k)
            for gradient in stack.grads.values():
                # Half of them zero, as where units are dead: there the last bits count most.
                drawn = torch.randn(gradient.shape[1:], generator=generator)
                kept = torch.rand(gradient.shape[1:], generator=generator) < 0.5
                gradient[i].copy_(drawn * kept)
        update(k)
    return [
        {name: p[i].clone() for name, p in stack.parameters.items()} for i in range(len(recipes))
    ]


@pytest.mark.parametrize("extra", sorted(EXTRAS))
@pytest.mark.parametrize("hidden", [[3], [21, 9], [40]])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_an_update_does_not_depend_on_the_population(
    name: str, hidden: list[int], extra: str
) -> None:
    base = Recipe(model={"name": "dense", "hidden": hidden}, optimizer=name, epochs=4)
    base = base.with_(EXTRAS[extra])
    rates = [0.01, 0.003, 0.001]
    recipes = [base.with_(seed=i, **{"optimizer.lr": rates[i % 3]}) for i in range(7)]
    whole = updated(recipes)
    for some in ([0, 3, 6], [2, 5], [4, 1, 0, 6], [0]):
        if some == [0] and "clip" in extra:
            continue
        for i, found in zip(some, updated([recipes[i] for i in some]), strict=True):
            assert all(torch.equal(found[p], whole[i][p]) for p in found), (some, i)
