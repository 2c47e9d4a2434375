"""Which recipes can train as one population, and in what order they sit in it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from danlu.recipe import Recipe
from danlu.train.batches.batch_stream import kind


def structure(r: Recipe) -> str:
    """What members of one population share. All else, every number among it, may differ from member to member."""
    model = r.model.model_dump(mode="json", exclude_none=True, exclude={"dropout"})
    loss = (r.loss.name, r.loss.class_weights)
    taken = (
        (r.init.prefix, r.init.frozen, r.init.lr_factor)
        if r.init.frozen or r.init.lr_factor != 1
        else ()
    )
    steps = (r.batch_size, r.accumulate, r.average.name)
    return json.dumps([model, loss, r.optimizer.name, steps, r.dtype, r.sample.whole, taken])


def grouped(recipes: Sequence[Recipe]) -> list[list[int]]:
    """Numbers of the recipes of each group, in its order; groups by their first member."""
    groups: dict[str, list[int]] = {}
    for i, r in enumerate(recipes):
        groups.setdefault(structure(r), []).append(i)
    return [sorted(g, key=lambda i: (kind(recipes[i]), i)) for g in groups.values()]
