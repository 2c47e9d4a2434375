"""The loss of a population: closed gradients where there are some, each network's own parameter.

Legend: M networks, B examples, n targets of a batch (B, or one for each token), K outputs.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from danlu.nn.loss_values import example_weights
from danlu.nn.losses import LOSSES, LossRule, resolve_loss
from danlu.nn.own_loss import own_loss
from danlu.recipe import Recipe
from danlu.recipe.sections import Loss


def loss_rule(section: Loss, classes: bool) -> LossRule:
    """Return the loss that a recipe names, for targets that are classes or numbers."""
    name = resolve_loss(section.name, classes)
    if name in LOSSES:
        return LOSSES[name]
    return own_loss(name, section.args or {}, classes)


class LossFunction:
    """What the networks of one structure minimise: the mean over the targets of a training part.

    parameter: of `LossRule.parameter`, one number or [M, 1]. class_weights [K]. mean_weights
    [M, 1]: what a training example weighs on average, over all of its targets; None where each is
    one target that counts once.
    """

    def __init__(
        self,
        rule: LossRule,
        parameter: Any,
        class_weights: Tensor | None,
        mean_weights: Tensor | None,
    ) -> None:
        self.has_closed_gradient = rule.closed is not None
        self._gradient = rule.gradient
        self._parameter = parameter
        if isinstance(parameter, Tensor):
            self._parameter = parameter.unsqueeze(2)  # [M, 1, 1], as outputs are [M, K, B]
        self._class_weights = class_weights
        self._mean_weights = mean_weights
        # Read once: each look at a number of a GPU waits for it.
        self._mean_weight = 1.0 if mean_weights is None else float(mean_weights[0])

    def weights(self, y: Tensor, counts: Tensor | None, examples: int) -> Tensor | None:
        """Return what each target of a batch of so many examples counts, see `example_weights`.

        None where that is the batch's plain mean.
        """
        if self._class_weights is None and counts is None:
            is_average = math.isclose(y.shape[-1], examples * self._mean_weight, rel_tol=1e-6)
            if is_average:
                return None
        average_batch: Any = examples
        if self._mean_weights is not None:
            average_batch = examples * self._mean_weights  # [M, 1]
        return example_weights(y, average_batch, self._class_weights, counts)

    def __call__(self, out: Tensor, y: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the losses [M] and their gradients by the outputs [M, K, B]."""
        return self._gradient(out, y, self._parameter, weights)


def parameters_of(rule: LossRule, recipes: list[Recipe]) -> list[float]:
    """Return each network's own parameter of the loss."""
    if rule.parameter is None:
        return [0.0] * len(recipes)
    name = rule.parameter.name
    return [getattr(recipe.loss, name) for recipe in recipes]
