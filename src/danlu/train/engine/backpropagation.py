"""Forward and backward through M networks: their losses, and the gradients in their stack.

Legend: M networks, S batches in a step, B examples, n targets, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from danlu.nn.protocols import auxiliary_weights, has_sequence_loss
from danlu.train.engine.loss_function import LossFunction
from danlu.train.forward import ForwardPass, SequenceForwardPass


class LossPass(NamedTuple):
    """What a forward pass gives, and what the backward pass needs of it.

    losses [M] of the networks' own outputs [M, K, n]; objective [M]: what is minimised, auxiliary
    classifiers included. gradients: of the objective by each output.
    """

    losses: Tensor
    outputs: Tensor
    objective: Tensor
    gradients: Sequence[Tensor]
    saved: Any


class MixedTargets(NamedTuple):
    """Targets y [M or 1, n] that count 1 − share [M or 1] beside the batch's own; weights as of
    those."""

    y: Tensor
    weights: Tensor | None
    share: Tensor


@dataclass(frozen=True)
class Backpropagation:
    """The passes of M networks by one way of passing through them.

    auxiliary_weights: what each auxiliary classifier's loss counts. dtype: of the weights.
    """

    forward_pass: ForwardPass
    loss: LossFunction
    auxiliary_weights: tuple[float, ...]
    has_sequence_loss: bool
    dtype: torch.dtype

    @classmethod
    def of(
        cls, model: nn.Module, forward_pass: ForwardPass, loss: LossFunction, dtype: torch.dtype
    ) -> Backpropagation:
        """Return the passes of networks of that structure."""
        auxiliary = auxiliary_weights(model)
        return cls(forward_pass, loss, auxiliary, has_sequence_loss(model), dtype)

    def forward(
        self, x: Tensor, y: Tensor, weights: Tensor | None, mixed: MixedTargets | None = None
    ) -> LossPass:
        """Pass x [S, B, …] forward; y [M or 1, n]; weights: what each target counts.

        mixed: other targets that count in part.
        """
        if self.has_sequence_loss:
            losses, outputs, saved = self._sequence_loss(x, y, weights)
            return LossPass(losses, outputs, losses, [torch.ones_like(losses)], saved)
        heads, saved = self.forward_pass.forward(x)
        losses, gradient = self._loss(heads[0], y, weights, mixed)
        objective = losses
        gradients = [gradient]
        for weight, head in zip(self.auxiliary_weights, heads[1:], strict=True):
            # The gradient by each head flows into the same pass backward.
            auxiliary_losses, gradient = self._loss(head, y, weights, mixed)
            objective = objective + weight * auxiliary_losses
            gradients.append(gradient * weight)
        return LossPass(losses, heads[0], objective, gradients, saved)

    def _loss(
        self, out: Tensor, y: Tensor, weights: Tensor | None, mixed: MixedTargets | None
    ) -> tuple[Tensor, Tensor]:
        """Return losses [M] and their gradient by the outputs: λ·ℓ(o, y) + (1 − λ)·ℓ(o, y′)."""
        losses, gradient = self.loss(out, y, weights)
        if mixed is None:
            return losses, gradient
        others, by_others = self.loss(out, mixed.y, mixed.weights)
        share = mixed.share
        of_outputs = share.view(-1, 1, 1)
        return (
            share * losses + (1 - share) * others,
            of_outputs * gradient + (1 - of_outputs) * by_others,
        )

    def backward(self, passed: LossPass) -> None:
        """Overwrite the gradient of every parameter."""
        self.forward_pass.backward(passed.gradients, passed.saved)

    def _sequence_loss(
        self, x: Tensor, y: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor, Any]:
        """Return losses, outputs and graph of networks whose loss is of a whole sentence.

        What its first token counts, all of its tokens do.
        """
        b, t = x.shape[1:]
        if weights is None:
            per_token = x.new_full((1, b), 1 / (b * t), dtype=self.dtype)  # [1, B]
        else:
            per_token = weights.view(-1, b, t)[..., 0]
        forward_pass = cast(SequenceForwardPass, self.forward_pass)
        return forward_pass.sequence_loss(x, y.view(-1, b, t), per_token)
