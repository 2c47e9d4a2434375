"""Which recipes can train as one population, and in what order they stand in it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from danlu.recipe import Recipe
from danlu.train.batches.batch_stream import batch_key


def structure(recipe: Recipe) -> str:
    """Return what members of one population share.

    All else, every number in particular, may differ from member to member.
    """
    model = recipe.model.model_dump(mode="json", exclude_none=True, exclude={"dropout"})
    loss = (recipe.loss.name, recipe.loss.class_weights)
    init = recipe.init
    treats_loaded_apart = init.frozen or init.lr_factor != 1
    loaded = (init.prefix, init.frozen, init.lr_factor) if treats_loaded_apart else ()
    steps = (recipe.batch_size, recipe.accumulate, recipe.average.name)
    return json.dumps(
        [model, loss, recipe.optimizer.name, steps, recipe.dtype, recipe.sample.whole, loaded]
    )


def group_recipes(recipes: Sequence[Recipe]) -> list[list[int]]:
    """Return the numbers of the recipes of each group, in the order of its population.

    Groups are ordered by their first member.
    """
    groups: dict[str, list[int]] = {}
    for i, recipe in enumerate(recipes):
        groups.setdefault(structure(recipe), []).append(i)
    return [sorted(group, key=lambda i: (batch_key(recipes[i]), i)) for group in groups.values()]
