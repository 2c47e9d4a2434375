"""The normalisers that trainings kept."""

from __future__ import annotations

from danlu.data import Normalizer, Schema
from danlu.errors import RunError
from danlu.files import Sealed, parse_tensors
from danlu.recipe import Recipe


def read_fitted(sealed: Sealed, name: str, kind: str) -> Normalizer:
    """Return the normaliser in a file, as it was fitted. Raises RunError for a damaged one."""
    tensors = parse_tensors(sealed.read(name), sealed.folder / name)
    try:
        return Normalizer(kind, tensors["shift"], tensors["scale"], tensors.get("matrix"))
    except KeyError as e:
        raise RunError(f"{sealed.folder / name} is foreign: it lacks {e}") from e


def read_normalizer(sealed: Sealed, name: str, recipe: Recipe, schema: Schema) -> Normalizer:
    """Return the normaliser of a training, in its precision."""
    kind = schema.normalization(recipe.normalize)
    return read_fitted(sealed, name, kind).to("cpu", recipe.weights_dtype)
