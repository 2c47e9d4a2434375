"""Recipes: schema, overrides, presets."""

from danlu.recipe.recipe import Recipe, fields, flatten, presets

__all__ = ["Recipe", "fields", "flatten", "presets"]
