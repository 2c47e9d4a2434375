"""Which recipes can train as one population, and in what order they stand in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from danlu.recipe import Recipe
from danlu.train.batches.batch_stream import batch_key


def structure(recipe: Recipe) -> str:
    """Return what members of one population share.

    All else, every number in particular, may differ from member to member.
    """
    init = recipe.init
    shared: list[Any] = [
        recipe.model.model_dump(mode="json", exclude_none=True, exclude={"dropout"}),
        recipe.loss.name,
        recipe.loss.class_weights,
        recipe.optimizer.name,
        recipe.batch_size,
        recipe.accumulate,
        recipe.average.name,
        recipe.dtype,
        recipe.loss.args,
        recipe.sample.whole,
        recipe.sample.balanced,
    ]
    if init.frozen or init.lr_factor != 1:
        # Loaded weights are then trained unlike others, so all must load the same ones.
        shared += [init.prefix, init.frozen, init.lr_factor]
    return json.dumps(shared)


def group_recipes(recipes: Sequence[Recipe]) -> list[list[int]]:
    """Return the numbers of the recipes of each group, in the order of its population.

    Groups are ordered by their first member.
    """
    groups: dict[str, list[int]] = {}
    for i, recipe in enumerate(recipes):
        groups.setdefault(structure(recipe), []).append(i)

    def order(i: int) -> Any:
        return batch_key(recipes[i]), i

    return [sorted(group, key=order) for group in groups.values()]
