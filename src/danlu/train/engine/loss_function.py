"""The loss of a population: closed gradients where there are some, each network's own smoothing.

Legend: M networks, B examples, K outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from danlu.nn.losses import (
    GRADIENTS,
    LOSSES,
    balanced_weights,
    example_weights,
    gradient_by_autograd,
    resolve_loss,
)
from danlu.recipe import Recipe


class LossFunction:
    """What the networks of one structure minimise.

    smoothing: one number, or [M, 1]. class_counts: of the training part, None for a target of
    numbers.
    """

    def __init__(
        self,
        recipe: Recipe,
        smoothing: Any,
        class_counts: Tensor | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        name = resolve_loss(recipe.loss.name, classes=class_counts is not None)
        self.has_closed_gradient = name in GRADIENTS
        closed = GRADIENTS.get(name)
        self._gradient = closed or gradient_by_autograd(LOSSES[name])
        self._smoothing = smoothing
        if isinstance(smoothing, Tensor):
            self._smoothing = smoothing.unsqueeze(2)  # [M, 1, 1], as outputs are [M, K, B]
        self._class_weights: Tensor | None = None
        if recipe.loss.class_weights == "balanced" and class_counts is not None:
            self._class_weights = balanced_weights(class_counts).to(device, dtype)

    def weights(self, y: Tensor, counts: Tensor | None) -> tuple[Tensor | None, Any]:
        """Return what each example counts, and the batch as a whole; see `example_weights`."""
        return example_weights(y, self._class_weights, counts)

    def __call__(self, out: Tensor, y: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the losses [M] and their gradients by the outputs [M, K, B]."""
        return self._gradient(out, y, self._smoothing, weights)
