"""What is measured of recurrent layers: their gates, and how far back in time gradients reach.

Legend: M networks, T steps, B examples, n inputs, G gates, D distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from danlu.nn.recurrent import Recurrent
from danlu.train.forward import Stack
from danlu.train.probes.saturation import MOST_GATES, gates_saturated

RECURRENT_EXAMPLES = 16  # of the sample, the first ones
# Steps before the last one.
DISTANCES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


@dataclass
class RecurrentFacts:
    """A recurrent layer on the sample's first examples.

    x [M, T, B, n]: what it sees. gradient: of the loss at the last step by x, where known.
    lengths [M, B]: tokens of each example, None where all have T.
    """

    name: str
    module: nn.Module
    x: Tensor
    gradient: Tensor | None
    lengths: Tensor | None
    stack: Stack

    def gates(self) -> Tensor:
        """Return the share of saturated values of each gate [M, MOST_GATES]; NaN for none."""
        shares = torch.full((len(self.x), MOST_GATES), torch.nan, dtype=torch.float64)
        # Of PyTorch's own layers the gates are not known.
        if isinstance(self.module, Recurrent):
            found = gates_saturated(self.name, self.module, self.x, self.stack, self.lengths)
            shares[:, : found.shape[1]] = found.cpu()
        return shares

    def by_distance(self) -> Tensor:
        """Return the root mean square, over examples, of their gradients' norms [M, D]."""
        norms = torch.full((len(self.x), len(DISTANCES)), torch.nan, dtype=torch.float64)
        if self.gradient is None:
            return norms
        squares = self.gradient.double().square().sum(3)  # [M, T, B]
        members, steps, examples = squares.shape
        lengths = self.lengths
        if lengths is None:
            lengths = torch.full((members, examples), steps, device=squares.device)
        for k, distance in enumerate(DISTANCES):
            place = lengths - 1 - distance  # [M, B]
            is_there = place >= 0
            at = squares.gather(1, place.clamp_min(0).unsqueeze(1)).squeeze(1)
            total = torch.where(is_there, at, 0.0).sum(1)
            # The loss is a mean over the examples: each one's own gradient is as many times it.
            norms[:, k] = ((total * examples**2) / is_there.sum(1)).sqrt().cpu()
        return norms


def time_first(value: Tensor, module: nn.Module) -> Tensor:
    """Return what a recurrent layer sees [M, …] as [M, T, B, n]."""
    if isinstance(module, nn.RNNBase) and module.batch_first:
        return value.transpose(1, 2)
    return value
