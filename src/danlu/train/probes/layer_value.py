"""What a layer gives, with the axis along which its units lie.

Legend: M networks, B examples, T tokens, n units.
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

    units: the axis of [M, …] along which its units lie. known: where there are tokens, of the same
    axes as value; None where nothing is padding.
    """

    value: Tensor
    module: nn.Module
    units: int
    known: Tensor | None = None

    @property
    def others(self) -> tuple[int, ...]:
        """The axes of examples and positions."""
        return tuple(k for k in range(1, self.value.ndim) if k != self.units)

    @property
    def all_axes(self) -> tuple[int, ...]:
        """The axes of one network."""
        return tuple(range(1, self.value.ndim))

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over each network [M] of values of this shape, but for padding."""
        if self.known is None:
            return values.mean(self.all_axes)
        total = torch.where(self.known, values, 0).sum(self.all_axes)
        return total / self.known.sum(self.all_axes)

    @cached_property
    def squared_norm(self) -> Tensor:
        """‖·‖² of each network's values [M]."""
        value = self.value if self.known is None else torch.where(self.known, self.value, 0)
        norms: Tensor = torch.linalg.vector_norm(value, dim=self.all_axes)
        return norms.square()

    @property
    def count(self) -> Tensor | int:
        """Values of a network, [M] where some are padding."""
        if self.known is None:
            return math.prod(self.value.shape[1:])
        return self.known.sum(self.all_axes)

    def _evenly_of(self, values: Tensor) -> Tensor:
        """Return at most `MOST_BINNED` of each network in a row, evenly among all."""
        if math.prod(values.shape[1:]) <= MOST_BINNED:
            return values.flatten(1)
        index: Any = _evenly(tuple(values.shape[1:]))
        # Gathered, as a flat copy of an array with examples as columns would be dear.
        return values[(slice(None), *index)]

    @cached_property
    def even_share(self) -> Tensor:
        """At most `MOST_BINNED` of each network's values, with padding among them."""
        return self._evenly_of(self.value)

    @cached_property
    def known_share(self) -> Tensor | None:
        """Which of these are no padding; None where none is."""
        return None if self.known is None else self._evenly_of(self.known)

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest of these [M]."""
        values, known = self.even_share, self.known_share
        if known is None:
            low, high = torch.aminmax(values, dim=1)
            return low, high
        return (
            torch.where(known, values, torch.inf).amin(1),
            torch.where(known, values, -torch.inf).amax(1),
        )


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


def layer_value(
    value: Tensor, module: nn.Module, units_before: bool, tokens: Tokens | None = None
) -> LayerValue:
    """Return a value [M, B, …] with its units' axis, and where there are tokens."""
    if value.ndim < 3:
        value = value.unsqueeze(-1)
    is_sequence = value.ndim == 4 and not units_before
    known = tokens.known(value) if is_sequence and tokens is not None else None
    return LayerValue(value, module, 3 if is_sequence else 2, known)


@dataclass(frozen=True)
class Tokens:
    """Where the texts of a sample have tokens: lengths [M or 1, B], of `width` at most.

    examples_first: whether layers give [M, B, T, n], not [M, T, B, n].
    """

    lengths: Tensor
    width: int
    examples_first: bool

    def known(self, value: Tensor) -> Tensor | None:
        """Return where a value of four axes has tokens, in its shape.

        None where all are, or where it is not by tokens.
        """
        places = torch.arange(self.width, device=self.lengths.device)
        known = places < self.lengths.unsqueeze(2)  # [M, B, T]
        if not self.examples_first:
            known = known.mT
        if bool(known.all()) or value.shape[1:3] != known.shape[1:]:
            return None
        known = known[: len(value)] if len(value) == 1 else known
        return known.unsqueeze(3).expand_as(value)


@lru_cache(maxsize=64)
def _evenly(shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Return the places of values evenly among those of a shape, an index for each axis."""
    size = math.prod(shape)
    flat = np.arange(0, size, math.ceil(size / MOST_BINNED))
    return tuple(torch.from_numpy(index) for index in np.unravel_index(flat, shape))
