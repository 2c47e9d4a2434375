"""What training examples weigh: by their classes, their targets, and how often they are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from danlu.data import Data
from danlu.nn.losses import balanced_weights
from danlu.recipe import Recipe


def weights_of(recipe: Recipe, data: Data) -> tuple[Tensor | None, Tensor | None]:
    """Return what each class weighs [K], and each training example [examples], float64.

    An example weighs what all of its targets do, times how often it is drawn. Either is None where
    all weigh 1.
    """
    schema = data.schema
    if schema.is_regression:
        return None, None
    class_counts = data.class_counts("train")
    class_weights = None
    given = recipe.loss.class_weights
    if given == "balanced":
        class_weights = balanced_weights(class_counts)
    elif not isinstance(given, str):
        class_weights = torch.tensor(given)
    if class_weights is None and not schema.each_token and not recipe.sample.balanced:
        return None, None

    y = data.y[data.parts["train"]].long()
    weights = (y >= 0).double()  # padding is no target
    if class_weights is not None:
        weights *= class_weights.double()[y.clamp_min(0)]
    if schema.each_token:
        weights = weights.sum(1)
    if recipe.sample.balanced:
        weights *= balanced_weights(class_counts).double()[y]
        # A class without examples is not drawn, so the others are drawn more often.
        weights *= len(class_counts) / int((class_counts > 0).sum())
    return class_weights, weights
