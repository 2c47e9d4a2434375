"""What recurrent networks and encoder–decoders are made of.

Legend: B examples, T tokens, E embedding, H units, n inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.cells import CELLS
from danlu.nn.layers import Dropout
from danlu.nn.protocols import ResetsWeights, State
from danlu.nn.recurrent import Recurrent, last, reverse


@dataclass(frozen=True)
class TextSpec:
    """What a network reads: the task, and the tokens of the vocabulary.

    source: how many tokens of an example are the source of a pair. allowed: which tag may follow
    which, as in `danlu.nn.crf.CRF`.
    """

    task: str
    tokens: int
    source: int = 0
    allowed: tuple[tuple[bool, ...], ...] = ()


class Embedding(nn.Module, ResetsWeights):
    """Tokens [T, B] as vectors [T, B, E], or as one-hot vectors where E is 0."""

    def __init__(self, tokens: int, size: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.size = size or tokens
        if size:
            self.weight = nn.Parameter(torch.empty(tokens, size))

    def reset_weights(self, fill: Callable[[str, Tensor, str], None], bias: float) -> None:
        """N(0, 1)."""
        if hasattr(self, "weight"):
            fill("weight", self.weight, "unit")

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """Return the vectors of tokens x, one-hot ones in the type of `like`."""
        if hasattr(self, "weight"):
            return F.embedding(x, self.weight)
        one_hot = F.one_hot(x.long(), self.tokens)
        return one_hot.to(like.dtype)


def variational_dropout(drop: Dropout, x: Tensor) -> Tensor:
    """Drop out x [T, B, n] with the same mask at every step (Gal and Ghahramani 2016).

    So padding does not change the mask.
    """
    if not drop.training or not drop.p:
        return x
    first_step = x[:1]
    return x * drop.mask(first_step)


class StackedRecurrent(nn.Module):
    """Layers of cells, each in one direction or both, with dropout between them."""

    def __init__(
        self,
        n: int,
        cells: tuple[str, ...],
        hidden: tuple[int, ...],
        bidirectional: bool,
        dropout: float,
        forget_bias: float,
    ) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.forwards = nn.ModuleList()
        self.back = nn.ModuleList()
        self.drops = nn.ModuleList()
        for cell, size in zip(cells, hidden, strict=True):
            self.forwards.append(Recurrent(cell, n, size, forget_bias))
            if bidirectional:
                self.back.append(Recurrent(cell, n, size, forget_bias))
            # After every layer, the last included: the output layer sees dropped units as well.
            self.drops.append(Dropout(dropout))
            n = 2 * size if bidirectional else size
        self.width = n

    def forward(
        self,
        x: Tensor,
        lengths: Tensor,
        states: State | None = None,
        ends: bool = False,
    ) -> tuple[Tensor, State]:
        """Return outputs [T, B, H] of the last layer (2H both ways), and each layer's last states.

        x [T, B, n]. ends: states after each sequence's own last token, not after the last step.
        """
        starts = self._states_of_layers(states)
        last_states: list[Tensor] = []
        for k, drop in enumerate(self.drops):
            out, state = self.forwards[k](x, starts[k], each=ends)
            if ends:
                state = [last(s, lengths) for s in state]
            last_states += state
            if self.bidirectional:
                reversed_out, _ = self.back[k](reverse(x, lengths))
                out = torch.cat([out, reverse(reversed_out, lengths)], 2)  # [T, B, 2H]
            x = variational_dropout(cast(Dropout, drop), out)
        return x, tuple(last_states)

    def _states_of_layers(self, states: State | None) -> list[State | None]:
        """Return the states of each layer, which lie in a row: h, and c where a cell has one."""
        if states is None:
            return [None] * len(self.forwards)
        by_layer: list[State | None] = []
        remaining = iter(states)
        for layer in self.forwards:
            has_memory = CELLS[cast(Recurrent, layer).cell].memory
            size = 2 if has_memory else 1
            by_layer.append(tuple(itertools.islice(remaining, size)))
        return by_layer
