"""What a training is: sections, overrides, presets, and recipe × schema → network."""

from danlu.recipe.overrides import flatten
from danlu.recipe.presets import presets
from danlu.recipe.recipe import Recipe, fields

__all__ = ["Recipe", "fields", "flatten", "presets"]
