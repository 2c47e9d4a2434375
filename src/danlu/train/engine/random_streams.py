"""The random streams of a step: dropout's masks, and what a user's own network draws."""

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
    place: dict[tuple[int, int], int] = {}  # of each distinct stream
    places = []
    for recipe, step in zip(recipes, steps, strict=True):
        name = (recipe.seed, step)
        places.append(place.setdefault(name, len(place)))
    layout.generators = []
    for seed, step in place:
        layout.generators.append(stream(seed, "dropout", step))
    layout.stream_of = None
    if len(place) > 1:
        layout.stream_of = torch.tensor(places)  # [M]


def seed_of_step(recipe: Recipe, step: int) -> int:
    """Return the seed of PyTorch's own generator in a step of one network."""
    return seed_of(recipe.seed, "dropout", step)
