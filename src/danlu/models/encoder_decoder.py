"""Encoder–decoders for pairs of texts of unequal length (Sutskever et al. 2014), with attention by option.

Legend: B examples, S tokens of the source, T of the target, H units, K tokens of the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from danlu.data.vocabulary import PAD
from danlu.models.recurrent import Embedding, TextSpec, StackedRecurrent, steady
from danlu.nn.layers import Dropout
from danlu.nn.recurrent import State

Memory = tuple[
    Tensor, Tensor
]  # what was read at each token of the source [S, B, H], where there is one [S, B]


class Attention(nn.Module):
    """softmax(h·W m) over the source, h̃ = tanh(V [Σ p m; h]) (Luong et al. 2015, global, "general")."""

    def __init__(self, memory: int, hidden: int) -> None:
        super().__init__()
        self.keys = nn.Linear(memory, hidden, bias=False)
        self.join = nn.Linear(memory + hidden, hidden)

    def forward(self, out: Tensor, memory: Memory) -> Tensor:
        """out [T, B, H] → [T, B, H]."""
        values, known = memory
        scores = torch.einsum("tbh,sbh->bts", out, self.keys(values))
        weights = scores.masked_fill(~known.t().unsqueeze(1), -torch.inf).softmax(2)
        context = torch.einsum("bts,sbh->tbh", weights, values)
        return torch.tanh(self.join(torch.cat([context, out], 2)))


class EncoderDecoder(nn.Module):
    """Reads the source, then writes the target, in training with the right tokens before (teacher forcing)."""

    def __init__(
        self,
        reading: TextSpec,
        outputs: int,
        embedding: int,
        stacked: dict[str, Any],
        dropout: float,
        attention: bool,
    ) -> None:
        super().__init__()
        self.reading = reading
        self.embedding, self.drop = Embedding(reading.tokens, embedding), Dropout(dropout)
        self.encoder = StackedRecurrent(self.embedding.size, dropout=dropout, **stacked)
        self.decoder = StackedRecurrent(
            self.embedding.size, dropout=dropout, **{**stacked, "bidirectional": False}
        )
        self.attention = Attention(self.encoder.width, self.decoder.width) if attention else None
        self.output = nn.Linear(self.decoder.width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, S + T], the source and the target so far → logits [B, T, K] of what follows each token of the target."""
        source, target = x[:, : self.reading.source], x[:, self.reading.source :]
        states, memory = self.read(source)
        return self.write(target, states, memory)[0].transpose(0, 1)

    def read(self, source: Tensor) -> tuple[State, Memory]:
        """The states after each source's last token, and what attention looks back on; source [B, S]."""
        lengths = (source != PAD).sum(1)
        vectors = steady(self.drop, self.embedding(source.t(), self.output.weight))
        values, states = self.encoder(vectors, lengths, ends=True)
        return states, (values, (source != PAD).t())

    def write(self, target: Tensor, states: State, memory: Memory) -> tuple[Tensor, State]:
        """Logits [T, B, K] of what follows each token of target [B, T], and the states to go on from."""
        vectors = steady(self.drop, self.embedding(target.t(), self.output.weight))
        out, states = self.decoder(vectors, (target != PAD).sum(1), states)
        out = out if self.attention is None else self.attention(out, memory)
        return self.output(out), states
