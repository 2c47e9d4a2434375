"""What a layer gives, with the axis along which its units lie.

Legend: M networks, B examples, n units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from danlu.nn.recurrent import Recurrent
from danlu.train.forward.taps import tapped_layers

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
    def rows(self) -> Tensor:
        """The values of each network in a row [M, n]."""
        return self.value.reshape(len(self.value), -1)


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
