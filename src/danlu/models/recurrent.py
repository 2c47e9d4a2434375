"""Recurrent networks over tokens: language models, taggers, classifiers; and encoder–decoders for pairs of texts.

What a network gives follows the task: a class for the whole text, a tag for each token, the next token, or the tokens
of a second text. Legend: B examples, T tokens, E embedding, H units, K outputs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.data.vocabulary import PAD
from danlu.errors import ModelError, wrong
from danlu.nn.cells import CELLS
from danlu.nn.crf import CRF, log_marginals, nll
from danlu.nn.layers import Dropout
from danlu.nn.recurrent import Recurrent, State, backwards, last


@dataclass(frozen=True)
class TextSpec:
    """What is read: the task, the tokens of the vocabulary, how many of an example's are the source of a pair.

    order: which tag may follow which, as of `danlu.nn.crf.CRF`.
    """

    task: str
    tokens: int
    source: int = 0
    order: tuple[tuple[bool, ...], ...] = ()


class Embedding(nn.Module):
    """Tokens [T, B] as vectors [T, B, E], or as one-hot vectors where E is 0."""

    def __init__(self, tokens: int, size: int) -> None:
        super().__init__()
        self.tokens, self.size = tokens, size or tokens
        if size:
            self.weight = nn.Parameter(torch.empty(tokens, size))

    def reset_weights(self, fill: Any, bias: float) -> None:
        """N(0, 1)."""
        if hasattr(self, "weight"):
            fill("weight", self.weight, "unit")

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        """like: of the type that vectors are to have."""
        return (
            F.embedding(x, self.weight)
            if hasattr(self, "weight")
            else F.one_hot(x.long(), self.tokens).to(like.dtype)
        )


def steady(drop: Dropout, x: Tensor) -> Tensor:
    """Dropout with the same mask at every step of x [T, B, n] (Gal and Ghahramani 2016): what is padded does not change it."""
    return x * drop.mask(x[:1]) if drop.training and drop.p else x


class StackedRecurrent(nn.Module):
    """Layers of cells, each forwards or both ways, with dropout between them."""

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
        self.forwards, self.back, self.drops = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
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
        """Outputs [T, B, H] of the last layer (2H both ways) for x [T, B, n], and the last states of every layer in a row.

        ends: states after each sequence's own last token, instead of after the last step.
        """
        found: list[Tensor] = []
        given = iter(states) if states is not None else None
        for k, drop in enumerate(self.drops):
            there = cast(Recurrent, self.forwards[k])
            size = 2 if CELLS[there.cell].memory else 1
            out, state = there(
                x, None if given is None else tuple(itertools.islice(given, size)), each=ends
            )
            if self.bidirectional:
                back, _ = self.back[k](backwards(x, lengths))
                out = torch.cat([out, backwards(back, lengths)], 2)
            found += [last(s, lengths) for s in state] if ends else state
            x = steady(cast(Dropout, drop), out)
        return x, tuple(found)


class RecurrentNet(nn.Module):
    """Reads a text; `carries`: whether its state goes on from one window of running text to the next."""

    def __init__(
        self,
        reading: TextSpec,
        outputs: int,
        embedding: int,
        stacked: dict[str, Any],
        dropout: float,
        carry: bool,
        crf: bool,
    ) -> None:
        super().__init__()
        self.reading, self.carries = reading, carry
        self.embedding = Embedding(reading.tokens, embedding)
        self.drop = Dropout(dropout)
        self.layers = StackedRecurrent(self.embedding.size, dropout=dropout, **stacked)
        self.output = nn.Linear(self.layers.width, outputs)
        if crf:
            self.crf = CRF(outputs, reading.order)

    def forward(self, x: Tensor, states: State | None = None) -> Any:
        """x [B, T] token numbers → logits [B, K] of the whole, or [B, T, K] of each token; with `carries` the states, too.

        With a CRF, in evaluation: log P of each tag, and the likeliest path as one-hot vectors, both [B, T, K].
        """
        out, ends, known = self._read(x, states)
        if self.reading.task == "classification":
            return self.output(out)
        logits = self.output(out)
        if self.structured and not self.training:
            path = self.crf.best(logits, known)
            told = log_marginals(logits, known, *self.crf.scores)
            return told.transpose(0, 1), F.one_hot(path, logits.shape[2]).to(told.dtype).transpose(
                0, 1
            )
        logits = logits.transpose(0, 1)
        return (logits, ends) if self.carries else logits

    def step(self, x: Tensor, states: State | None) -> tuple[Tensor, State]:
        """Logits [B, K] of what follows x [B, T], and the states to go on from."""
        out, ends, _ = self._read(x, states)
        return self.output(out[-1]), ends

    @property
    def structured(self) -> bool:
        """Whether the loss is of a whole sentence: `objective` gives it."""
        return hasattr(self, "crf")

    def objective(self, x: Tensor, y: Tensor, per: Tensor) -> tuple[Tensor, Tensor]:
        """Σ per·(−log P(y | x)) over sentences, and the logits [B, T, K]; y [B, T], per [B] what a token of each counts."""
        out, _, known = self._read(x, None)
        logits = self.output(out)
        return (nll(logits, y.t(), known, *self.crf.scores) * per).sum(), logits.transpose(0, 1)

    def _read(self, x: Tensor, states: State | None) -> tuple[Tensor, State, Tensor]:
        """What the layers give, [B, H] of the whole or [T, B, H]; the last states; where there are tokens [T, B]."""
        lengths = (x != PAD).sum(1)
        vectors = steady(self.drop, self.embedding(x.t(), self.output.weight))
        out, ends = self.layers(vectors, lengths, states)
        if self.reading.task == "classification":
            out = self._whole(out, lengths)
        return out, ends, (x != PAD).t()

    def _whole(self, out: Tensor, lengths: Tensor) -> Tensor:
        """What each direction holds once it has read all."""
        if not self.layers.bidirectional:
            return last(out, lengths)
        there, back = out.chunk(2, 2)
        return torch.cat([last(there, lengths), back[0]], 1)


def _unfit(task: str, bidirectional: bool, carry: bool, crf: bool, attention: bool) -> list[str]:
    """Fields that a task has no use for."""
    ahead = "must be false where later tokens are to be told from earlier ones"
    blind = "needs `model.attention` to be of use in an encoder"
    needs = (
        ("bidirectional", bidirectional and task == "language", ahead),
        ("bidirectional", bidirectional and task == "pairs" and not attention, blind),
        (
            "attention",
            attention and task != "pairs",
            "needs pairs of texts, of which one looks at the other",
        ),
        (
            "carry",
            carry and task != "language",
            "needs running text, whose windows follow one another",
        ),
        ("crf", crf and task != "tagging", "needs tagged text, whose tags follow one another"),
    )
    return [
        wrong(f"model.{field}", True, rule, f"try model.{field}=false")
        for field, broken, rule in needs
        if broken
    ]


def build(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    reading: TextSpec | None,
    cell: tuple[str, ...],
    hidden: tuple[int, ...],
    embedding: int,
    bidirectional: bool,
    carry: bool,
    dropout: float,
    forget_bias: float,
    crf: bool,
    attention: bool,
) -> nn.Module:
    """The network for a task. cell: of each layer, or one for all. embedding: 0 for one-hot tokens."""
    if reading is None:
        shape = "×".join(map(str, input_shape))
        raise ModelError(
            f"{name!r} reads text, but the examples are of shape {shape}; try model=dense"
        )
    cells = cell if len(cell) > 1 else (cell or (name,)) * len(hidden)
    mistakes = (
        [] if hidden else ["`model.hidden` is empty, but must have at least one layer; try 128"]
    )
    if hidden and len(cells) != len(hidden):
        rule = f"must be one cell, or as many as the {len(hidden)} layers of model.hidden"
        mistakes.append(wrong("model.cell", cells, rule))
    mistakes += _unfit(reading.task, bidirectional, carry, crf, attention)
    if mistakes:
        raise ModelError(*mistakes)
    stacked = {
        "cells": cells,
        "hidden": hidden,
        "bidirectional": bidirectional,
        "forget_bias": forget_bias,
    }
    if reading.task == "pairs":
        from danlu.models.encoder_decoder import EncoderDecoder  # made of this file's parts

        return EncoderDecoder(reading, outputs, embedding, stacked, dropout, attention)
    return RecurrentNet(reading, outputs, embedding, stacked, dropout, carry, crf)
