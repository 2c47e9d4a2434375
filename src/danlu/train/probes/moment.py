"""What is known of M networks at a measured update, from which the table's figures are computed.

Squared norms and products are float64. Legend: M networks, K classes, L layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from danlu.train.forward import Stack


class LayerSums(NamedTuple):
    """Squared norms of a layer's weights, their gradients and updates [M].

    zeros [M]: how many gradients are exactly 0, of so many `values`.
    """

    weights: Tensor
    gradients: Tensor
    updates: Tensor
    zeros: Tensor
    values: int


class Evaluated(NamedTuple):
    """What networks give on the sample in evaluation mode: [M], by class [M, K]."""

    loss: Tensor
    accuracy: Tensor
    class_losses: Tensor
    class_accuracies: Tensor


class Sums:
    """Sums over each parameter of each network, of vectors of a stack's layout."""

    def __init__(self, stack: Stack) -> None:
        self.members = stack.members
        self.sizes = [math.prod(shape) for shape in stack.shapes.values()]
        lengths = [size for size in self.sizes for _ in range(stack.members)]
        self.lengths = torch.tensor(lengths, dtype=torch.long, device=stack.theta.device)

    def of(self, vector: Tensor) -> Tensor:
        """Return the sums [parameters, M], float64."""
        sums = torch.segment_reduce(vector.double(), "sum", lengths=self.lengths)
        return sums.view(-1, self.members)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Return each network's product of two vectors [M]."""
        if self.members == 1:
            return torch.dot(a.double(), b.double()).unsqueeze(0)
        return self.of(a.double() * b.double()).sum(0)

    def squares(self, vector: Tensor) -> Tensor:
        """Return squared norms [parameters, M]."""
        return self.of(vector.double().square())

    def square(self, vector: Tensor) -> Tensor:
        """Return each network's squared norm [M]."""
        return self.product(vector, vector)


@dataclass
class Moment:
    """Networks before a measured update, on the sample; [M] each.

    losses: of its halves in training mode. half_squares: ‖g‖² of the halves' gradients;
    half_product: the product of the two. sharpness, spread: of the level "full".
    """

    half_size: int
    losses: list[Tensor]
    half_squares: list[Tensor]
    half_product: Tensor
    evaluated: Evaluated
    sharpness: Tensor | None = None
    spread: Tensor | None = None

    def noise_scale(self) -> Tensor:
        """Return tr Σ/‖G‖² from two estimates of G, of a half each (both unbiased)."""
        a, b = self.half_squares
        trace = self.half_size / 2 * (a + b - 2 * self.half_product)
        scale = trace / self.half_product
        return torch.where(self.half_product > 0, scale, torch.inf)


@dataclass
class Updated:
    """A measured update, [M] each: squared norms, but for products and the loss.

    gradient, penalty, penalised, clipped: of the step's gradient, of what penalties add, of their
    sum, of what clipping leaves of that. update, decay: of ΔW, and of decoupled decay. promised:
    −gᵀΔW by the gradient of the sample's first half; loss_after, after_square: its loss and
    gradient after the update; after_product: that gradient times the one before.
    """

    before: Moment
    gradient: Tensor
    penalty: Tensor
    penalised: Tensor
    clipped: Tensor
    update: Tensor
    decay: Tensor
    promised: Tensor
    loss_after: Tensor
    after_square: Tensor
    after_product: Tensor

    def cosine(self) -> Tensor:
        """Return the cosine of the first half's gradients before and after the update."""
        return self.after_product / (self.before.half_squares[0] * self.after_square).sqrt()

    def progress(self) -> Tensor:
        """Return what the update took off the loss, by what the gradient promised."""
        gained = self.before.losses[0].double() - self.loss_after.double()
        return torch.where(self.promised > 0, gained / self.promised, torch.nan)
