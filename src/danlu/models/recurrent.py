"""Recurrent networks over tokens: language models, taggers, classifiers, encoder–decoders.

What a network gives follows the task: a class for the whole text, a tag for each token, the next
token, or the tokens of a second text. Legend: B examples, T tokens, E embedding, H units,
K outputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.data.vocabulary import PAD
from danlu.errors import Mistake, ModelError, wrong
from danlu.models import fields
from danlu.models.encoder_decoder import EncoderDecoder
from danlu.models.recurrent_parts import (
    Embedding,
    StackedRecurrent,
    TextSpec,
    variational_dropout,
)
from danlu.nn.cells import CELLS
from danlu.nn.crf import CRF, log_marginals, nll
from danlu.nn.layers import Dropout
from danlu.nn.protocols import HasSequenceLoss, NextToken, State, Stateful
from danlu.nn.recurrent import last

FIELDS = (
    fields.CELL,
    fields.HIDDEN.with_default((128,)),
    fields.EMBEDDING,
    fields.BIDIRECTIONAL,
    fields.STATEFUL,
    fields.DROPOUT,
    fields.FORGET_BIAS,
    fields.RESET_AFTER,
    fields.CRF,
    fields.ATTENTION,
)


class RecurrentNet(nn.Module, Stateful, HasSequenceLoss, NextToken):
    """Reads a text."""

    def __init__(
        self,
        text: TextSpec,
        outputs: int,
        embedding: int,
        layers: dict[str, Any],
        dropout: float,
        stateful: bool,
        crf: bool,
    ) -> None:
        super().__init__()
        self.text, self.stateful = text, stateful
        self.embedding = Embedding(text.tokens, embedding)
        self.drop = Dropout(dropout)
        self.layers = StackedRecurrent(self.embedding.size, dropout=dropout, **layers)
        self.output = nn.Linear(self.layers.width, outputs)
        self.has_sequence_loss = crf
        if crf:
            self.crf = CRF(outputs, text.allowed)

    def forward(self, x: Tensor, states: State | None = None) -> Any:
        """Return logits [B, K] of the whole text, or [B, T, K] of each token, for tokens x [B, T].

        A stateful network returns its states as well. A network with a CRF returns, in evaluation,
        log P of each tag and the likeliest path as one-hot vectors, both [B, T, K].
        """
        out, last_states, known = self._read(x, states)
        if self.text.task == "classification":
            return self.output(out)
        logits = self.output(out)
        if self.has_sequence_loss and not self.training:
            return self._marginals_and_path(logits, known)
        logits = logits.transpose(0, 1)  # [B, T, K]
        return (logits, last_states) if self.stateful else logits

    def _marginals_and_path(self, logits: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        log_p = log_marginals(logits, known, *self.crf.scores)  # [T, B, K]
        path = self.crf.best(logits, known)  # [T, B]
        tags = logits.shape[2]
        one_hot = F.one_hot(path, tags).to(log_p.dtype)
        return log_p.transpose(0, 1), one_hot.transpose(0, 1)

    def step(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return logits [B, K] of what follows x [B, T], and the states to go on from."""
        out, last_states, _ = self._read(x, state)
        at_last_token = out[-1]
        return self.output(at_last_token), last_states

    def sequence_loss(self, x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σ weights·(−log P(y | x)) over sentences, and the logits [B, T, K].

        y [B, T]; weights [B]: what a token of each sentence counts.
        """
        out, _, known = self._read(x, None)
        logits = self.output(out)
        losses = nll(logits, y.t(), known, *self.crf.scores)  # [B]
        loss = (losses * weights).sum()
        return loss, logits.transpose(0, 1)

    def _read(self, x: Tensor, states: State | None) -> tuple[Tensor, State, Tensor]:
        """Return what the layers give, the last states, and where there are tokens [T, B].

        The layers give [B, H] of the whole, or [T, B, H].
        """
        known = x != PAD  # [B, T]
        lengths = known.sum(1)
        vectors = self.embedding(x.t(), self.output.weight)  # [T, B, E]
        vectors = variational_dropout(self.drop, vectors)
        out, last_states = self.layers(vectors, lengths, states)
        if self.text.task == "classification":
            out = self._summary(out, lengths)
        return out, last_states, known.t()

    def _summary(self, out: Tensor, lengths: Tensor) -> Tensor:
        """Return what each direction holds once it has read all."""
        if not self.layers.bidirectional:
            return last(out, lengths)
        forward, backward = out.chunk(2, 2)
        at_end = last(forward, lengths)
        at_start = backward[0]
        return torch.cat([at_end, at_start], 1)


def _misplaced_fields(
    task: str,
    bidirectional: bool,
    stateful: bool,
    crf: bool,
    attention: bool,
) -> list[Mistake]:
    """Return a mistake for each field that a task has no use for."""
    broken = []
    if bidirectional and task == "language":
        rule = "must be false where later tokens are predicted from earlier ones"
        broken.append(("bidirectional", rule))
    if bidirectional and task == "pairs" and not attention:
        rule = "needs `model.attention` to be of use in an encoder"
        broken.append(("bidirectional", rule))
    if attention and task != "pairs":
        broken.append(("attention", "needs pairs of texts"))
    if stateful and task != "language":
        broken.append(("stateful", "needs running text, read window by window"))
    if crf and task != "tagging":
        broken.append(("crf", "needs tagged text"))
    mistakes = []
    for field, rule in broken:
        mistakes.append(wrong(f"model.{field}", True, rule, f"try model.{field}=false"))
    return mistakes


def _cells_of_layers(
    name: str,
    cell: tuple[str, ...],
    hidden: tuple[int, ...],
    reset_after: bool,
) -> tuple[str, ...]:
    """Return the row of `CELLS` for each layer."""
    cells = cell or (name,)
    if len(cells) == 1:
        cells = cells * len(hidden)
    if not reset_after:
        cells = tuple("gru-reset-before" if c == "gru" else c for c in cells)
    return cells


def build(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    text: TextSpec | None,
    cell: tuple[str, ...],
    hidden: tuple[int, ...],
    embedding: int,
    bidirectional: bool,
    stateful: bool,
    dropout: float,
    forget_bias: float,
    reset_after: bool,
    crf: bool,
    attention: bool,
) -> nn.Module:
    """Return the network for a task.

    cell: of each layer, or one for all. embedding: 0 for one-hot tokens. Raises ModelError when
    the examples are not text, or a field does not fit the task.
    """
    if text is None:
        shape = "×".join(map(str, input_shape))
        raise ModelError(
            f"{name!r} reads text, but the examples have shape {shape}; try model=dense"
        )
    cells = _cells_of_layers(name, cell, hidden, reset_after)
    mistakes = _misplaced_fields(text.task, bidirectional, stateful, crf, attention)
    if not hidden:
        mistakes.insert(
            0, Mistake("`model.hidden` is empty, but needs at least one layer; try 128")
        )
    elif len(cells) != len(hidden):
        rule = f"must be one cell, or as many as the {len(hidden)} layers of model.hidden"
        mistakes.insert(0, wrong("model.cell", cells, rule))
    if mistakes:
        raise ModelError(*mistakes)
    layers = {
        "cells": cells,
        "hidden": hidden,
        "bidirectional": bidirectional,
        "forget_bias": forget_bias,
    }
    if text.task == "pairs":
        return EncoderDecoder(text, outputs, embedding, layers, dropout, attention)
    return RecurrentNet(text, outputs, embedding, layers, dropout, stateful, crf)


def has_forget_gate(cells: tuple[str, ...]) -> bool:
    """Whether one of the cells has a forget gate."""
    return any(CELLS[cell].memory for cell in cells if cell in CELLS)
