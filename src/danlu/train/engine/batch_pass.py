"""A step's batch as it passes through M networks: examples, targets, what each counts.

Legend: M networks, S batches in a step, B examples, n targets.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from danlu.train.batches import StepBatch
from danlu.train.batches.loader import Mix
from danlu.train.batches.targets import tokens_in_a_row
from danlu.train.engine.backpropagation import MixedTargets
from danlu.train.engine.loss_function import LossFunction


class BatchPass(NamedTuple):
    """x [S, B, …], y [M or 1, n] and the weights of targets.

    mixed: other targets that count in part. counts: how often each target counts.
    """

    x: Tensor
    y: Tensor
    weights: Tensor | None
    mixed: MixedTargets | None
    counts: Tensor | None


def batch_pass(
    batch: StepBatch, batch_of: Tensor, loss: LossFunction, dtype: torch.dtype
) -> BatchPass:
    """Return a batch for networks that see those batches; batch_of [M]."""
    y, counts = batch.y, batch.counts
    if y.size(0) not in (1, batch_of.size(0)):
        y = y[batch_of]  # [M, B, …]
    if y.ndim == 3:
        y, counts = tokens_in_a_row(y, counts, dtype)
    examples = batch.y.size(1)
    weights = loss.weights(y, counts, examples)
    mixed = None
    if batch.mix is not None:
        mixed = _mixed_targets(batch.mix, batch_of, loss, counts, examples)
    return BatchPass(batch.x, y, weights, mixed, counts)


def _mixed_targets(
    mix: Mix, batch_of: Tensor, loss: LossFunction, counts: Tensor | None, examples: int
) -> MixedTargets:
    """Return what is mixed into the targets of each network."""
    y, partner, share = mix
    if y.size(0) not in (1, batch_of.size(0)):
        y, partner, share = y[batch_of], partner[batch_of], share[batch_of]
    if counts is not None:
        counts = counts.gather(1, partner.expand(counts.shape))
    return MixedTargets(y, loss.weights(y, counts, examples), share)
