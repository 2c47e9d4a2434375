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
        self.tokens, self.size = tokens, size or tokens
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
        return F.one_hot(x.long(), self.tokens).to(like.dtype)


def variational_dropout(drop: Dropout, x: Tensor) -> Tensor:
    """Drop out x [T, B, n] with the same mask at every step (Gal and Ghahramani 2016).

    So padding does not change the mask.
    """
    return x * drop.mask(x[:1]) if drop.training and drop.p else x


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
        self.forwards, self.back = nn.ModuleList(), nn.ModuleList()
        self.drops = nn.ModuleList()
        for cell, size in zip(cells, hidden, strict=True):
            self.forwards.append(Recurrent(cell, n, size, forget_bias))
            if bidirectional:
                self.back.append(Recurrent(cell, n, size, forget_bias))
            self.drops.append(Dropout(dropout))
            n = 2 * size if bidirectional else size
        self.width = n

    def forward(
        self, x: Tensor, lengths: Tensor, states: State | None = None, ends: bool = False
    ) -> tuple[Tensor, State]:
        """Return outputs [T, B, H] of the last layer (2H both ways), and each layer's last states.

        x [T, B, n]. ends: states after each sequence's own last token, not after the last step.
        """
        last_states: list[Tensor] = []
        remaining = iter(states) if states is not None else None
        for k, drop in enumerate(self.drops):
            layer = cast(Recurrent, self.forwards[k])
            size = 2 if CELLS[layer.cell].memory else 1
            start = None if remaining is None else tuple(itertools.islice(remaining, size))
            out, state = layer(x, start, each=ends)
            if self.bidirectional:
                reversed_out, _ = self.back[k](reverse(x, lengths))
                out = torch.cat([out, reverse(reversed_out, lengths)], 2)
            last_states += [last(s, lengths) for s in state] if ends else state
            x = variational_dropout(cast(Dropout, drop), out)
        return x, tuple(last_states)
