"""What a layer gives, with the axis along which its units lie.

Legend: M networks, B examples, n units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from danlu.nn.recurrent import Recurrent
from danlu.train.forward.taps import tapped_layers

MOST_BINNED = 4096  # values of a layer that a histogram counts
# Of three axes [B, n, T] the units' comes before the positions', as it always does of four.
_CHANNELS_BEFORE_POSITIONS = (
    nn.Conv1d,
    nn.ConvTranspose1d,
    nn.BatchNorm1d,
    nn.InstanceNorm1d,
)
_CHANNELS_LAST = (nn.Linear, nn.Embedding, Recurrent, nn.RNNBase)


@dataclass(frozen=True)
class LayerValue:
    """What a layer of M networks gives, [M, …], in the axes of one network.

    units: the axis of [M, …] along which its units lie.
    """

    value: Tensor
    module: nn.Module
    units: int

    @property
    def others(self) -> tuple[int, ...]:
        """The axes of examples and positions."""
        return tuple(k for k in range(1, self.value.ndim) if k != self.units)

    @property
    def count(self) -> int:
        """Values of a network."""
        return math.prod(self.value.shape[1:])

    @property
    def all_axes(self) -> tuple[int, ...]:
        """The axes of one network."""
        return tuple(range(1, self.value.ndim))

    @cached_property
    def squared_norm(self) -> Tensor:
        """‖·‖² of each network's values [M]."""
        norms: Tensor = torch.linalg.vector_norm(self.value, dim=self.all_axes)
        return norms.square()

    @cached_property
    def even_share(self) -> Tensor:
        """At most `MOST_BINNED` of each network's values in a row, evenly among all."""
        if self.count <= MOST_BINNED:
            return self.value.flatten(1)
        index: Any = _evenly(tuple(self.value.shape[1:]))
        # Gathered, as a flat copy of an array with examples as columns would be dear.
        return self.value[(slice(None), *index)]

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest of these [M]."""
        low, high = torch.aminmax(self.even_share, dim=1)
        return low, high


def unit_axes(model: nn.Module) -> dict[str, bool]:
    """Return for each tapped layer whether units come before positions where it has three axes."""
    before = {}
    comes_before = False
    for name, module in tapped_layers(model).items():
        if isinstance(module, _CHANNELS_BEFORE_POSITIONS):
            comes_before = True
        elif isinstance(module, _CHANNELS_LAST):
            comes_before = False
        # An activation has its units where the layer before has them.
        before[name] = comes_before
    return before


def layer_value(value: Tensor, module: nn.Module, units_before: bool) -> LayerValue:
    """Return a value [M, B, …] with its units' axis."""
    if value.ndim < 3:
        value = value.unsqueeze(-1)
    is_sequence = value.ndim == 4 and not units_before
    return LayerValue(value, module, 3 if is_sequence else 2)


@lru_cache(maxsize=64)
def _evenly(shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Return the places of values evenly among those of a shape, an index for each axis."""
    size = math.prod(shape)
    flat = np.arange(0, size, math.ceil(size / MOST_BINNED))
    return tuple(torch.from_numpy(index) for index in np.unravel_index(flat, shape))
