"""Encoder–decoders for pairs of texts of unequal length (Sutskever et al. 2014).

Legend: B examples, S tokens of the source, T of the target, H units, K tokens of the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from danlu.data.vocabulary import PAD
from danlu.models.recurrent_parts import (
    Embedding,
    StackedRecurrent,
    TextSpec,
    variational_dropout,
)
from danlu.nn.layers import Dropout
from danlu.nn.protocols import EncodesAndDecodes, State

# What was read at each token of the source [S, B, H], and where there is one [S, B].
Memory = tuple[Tensor, Tensor]


class Attention(nn.Module):
    """softmax(h·W m) over the source, h̃ = tanh(V [Σ p m; h]).

    (Luong et al. 2015, global, "general".)
    """

    def __init__(self, memory: int, hidden: int) -> None:
        super().__init__()
        self.keys = nn.Linear(memory, hidden, bias=False)
        self.join = nn.Linear(memory + hidden, hidden)

    def forward(self, out: Tensor, memory: Memory) -> Tensor:
        """out [T, B, H] → [T, B, H]."""
        values, known = memory
        scores = torch.einsum("tbh,sbh->bts", out, self.keys(values))  # [B, T, S]
        is_padding = ~known.t().unsqueeze(1)  # [B, 1, S]
        weights = scores.masked_fill(is_padding, -torch.inf).softmax(2)
        context = torch.einsum("bts,sbh->tbh", weights, values)  # [T, B, H]
        both = torch.cat([context, out], 2)
        return torch.tanh(self.join(both))


class EncoderDecoder(nn.Module, EncodesAndDecodes):
    """Reads the source, then writes the target; in training after the right tokens."""

    def __init__(
        self,
        text: TextSpec,
        outputs: int,
        embedding: int,
        layers: dict[str, Any],
        dropout: float,
        attention: bool,
    ) -> None:
        super().__init__()
        self.text = text
        self.embedding = Embedding(text.tokens, embedding)
        self.drop = Dropout(dropout)
        size = self.embedding.size
        self.encoder = StackedRecurrent(size, dropout=dropout, **layers)
        # The target is written from left to right, whichever way the source is read.
        one_way = {**layers, "bidirectional": False}
        self.decoder = StackedRecurrent(size, dropout=dropout, **one_way)
        self.attention = None
        if attention:
            self.attention = Attention(self.encoder.width, self.decoder.width)
        self.output = nn.Linear(self.decoder.width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, T, K] of what follows each token of the target.

        x [B, S + T]: the source, then the target so far.
        """
        source = x[:, : self.text.source]
        target = x[:, self.text.source :]
        states, memory = self.read(source)
        logits, _ = self.write(target, states, memory)
        return logits.transpose(0, 1)

    def read(self, source: Tensor) -> tuple[State, Memory]:
        """Return the states after each source's last token, and what attention looks back on."""
        known = source != PAD  # [B, S]
        vectors = self._vectors(source)
        values, states = self.encoder(vectors, known.sum(1), ends=True)
        return states, (values, known.t())

    def write(self, target: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Return logits [T, B, K] of what follows each token of target [B, T], and the states."""
        lengths = (target != PAD).sum(1)
        out, state = self.decoder(self._vectors(target), lengths, state)
        if self.attention is not None:
            out = self.attention(out, memory)
        return self.output(out), state

    def _vectors(self, tokens: Tensor) -> Tensor:
        vectors = self.embedding(tokens.t(), self.output.weight)
        return variational_dropout(self.drop, vectors)
