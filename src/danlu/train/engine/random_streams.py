"""The random streams of a step: dropout's masks, and what a network of one's own draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from danlu.recipe import Recipe
from danlu.rng import seed_of, stream
from danlu.train.forward import MemberLayout


def set_mask_streams(layout: MemberLayout, recipes: Sequence[Recipe], steps: Sequence[int]) -> None:
    """Set the streams of masks; steps: those that each network has taken.

    Networks of one seed that have taken as many steps share a stream, as their masks are equal.
    """
    names = []
    for recipe, step in zip(recipes, steps, strict=True):
        names.append((recipe.seed, step))
    distinct = list(dict.fromkeys(names))
    layout.generators = [stream(seed, "dropout", step) for seed, step in distinct]
    layout.stream_of = None
    if len(distinct) > 1:
        place = {name: j for j, name in enumerate(distinct)}
        layout.stream_of = torch.tensor([place[name] for name in names])  # [M]


def seed_of_step(recipe: Recipe, step: int) -> int:
    """Return the seed of PyTorch's own generator in a step of one network."""
    return seed_of(recipe.seed, "dropout", step)
