"""The normalisers that trainings kept."""

from __future__ import annotations

from pathlib import Path

from danlu.data import Normalizer, Schema
from danlu.files import read_tensors
from danlu.recipe import Recipe


def read_fitted(file: Path, kind: str) -> Normalizer:
    """Return a normaliser as it was fitted."""
    tensors = read_tensors(file)
    return Normalizer(kind, tensors["shift"], tensors["scale"], tensors.get("matrix"))


def read_normalizer(file: Path, recipe: Recipe, schema: Schema) -> Normalizer:
    """Return the normaliser of a training, in its precision."""
    kind = schema.normalization(recipe.normalize)
    return read_fitted(file, kind).to("cpu", recipe.weights_dtype)
