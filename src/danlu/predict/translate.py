"""Writing the second text of a pair by its first, with beam search.

Legend: W hypotheses side by side, K tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from danlu.data.memmap import Array
from danlu.data.vocabulary import EOS, PAD, UNK, Vocabulary
from danlu.errors import RunError, wrong
from danlu.nn.protocols import EncodesAndDecodes
from danlu.predict.generate import whole_number_mistakes
from danlu.predict.text import cut_as_in_training, encode_checked
from danlu.predict.trained import Trained, vocabulary_for

_MOST_BEAMS = 1000


class Hypothesis(NamedTuple):
    """What is written so far, `<eos>` first, and its log P."""

    tokens: list[int]
    nats: float


def translate(
    trained: Trained, texts: Sequence[str], beam: int = 1, length: int = 200
) -> list[tuple[str, float]]:
    """Return the second text of each pair by its first, and its log P.

    beam: how many hypotheses are kept (1: always the likeliest token). Raises RunError for options
    out of range, or texts the network cannot read.
    """
    vocabulary = vocabulary_for(trained, "pairs")
    mistakes = whole_number_mistakes(beam=(beam, 1, 5), length=(length, 1, 200))
    if not mistakes and beam > _MOST_BEAMS:
        mistakes.append(wrong("beam", beam, f"must be at most {_MOST_BEAMS:,}", "try 5"))
    if mistakes:
        raise RunError(*mistakes)
    sources = cut_as_in_training(encode_checked(vocabulary.encode_all, texts), trained.schema)
    return translate_tokens(trained, sources, beam, length)


def translate_tokens(
    trained: Trained,
    sources: Sequence[Sequence[int] | Array],
    beam: int = 1,
    length: int = 200,
) -> list[tuple[str, float]]:
    """Return the same for sources as token numbers, known or not."""
    vocabulary = Vocabulary(trained.schema.vocabulary)
    model = cast(EncodesAndDecodes, trained.model())
    written = []
    for source in sources:
        best = beam_search(model, source, beam, length)
        written.append((vocabulary.decode(best.tokens), best.nats))
    return written


@torch.no_grad()
def beam_search(
    model: EncodesAndDecodes,
    source: Sequence[int] | Array,
    beam: int,
    length: int,
) -> Hypothesis:
    """Return the likeliest target found, without its `<eos>`.

    A hypothesis that ends leaves its place to others; the likeliest by log P wins.
    """
    x = torch.tensor([list(source)], dtype=torch.int32)  # [1, S]
    state, (values, known) = model.read(x)
    growing = [Hypothesis([EOS], 0.0)]
    finished: list[Hypothesis] = []
    for _ in range(length):
        w = len(growing)
        last_tokens = [[hypothesis.tokens[-1]] for hypothesis in growing]
        last = torch.tensor(last_tokens, dtype=torch.int32)  # [W, 1]
        # All hypotheses look back on the same source.
        values_of_each = values.expand(-1, w, -1)
        known_of_each = known.expand(-1, w)
        memory = (values_of_each, known_of_each)
        logits, state = model.write(last, state, memory)

        longer = []
        rows = []  # of each: which hypothesis it goes on from
        for row, token, nats in _likeliest(logits[-1], growing, beam):
            before = growing[row].tokens
            if token == EOS:
                finished.append(Hypothesis(before, nats))
            else:
                longer.append(Hypothesis([*before, token], nats))
                rows.append(row)

        # log P only falls, so what is below a finished one cannot win any more.
        to_beat = max((hypothesis.nats for hypothesis in finished), default=-math.inf)
        hopeful = []
        kept_rows = []
        for hypothesis, row in zip(longer, rows, strict=True):
            if hypothesis.nats > to_beat:
                hopeful.append(hypothesis)
                kept_rows.append(row)
        if not hopeful:
            break
        growing = hopeful
        kept = torch.tensor(kept_rows)
        state = tuple(s[kept] for s in state)
    # Where nothing has ended within the length, what grew is the best there is.
    winner = max(finished or growing, key=lambda hypothesis: hypothesis.nats)
    return Hypothesis(winner.tokens[1:], winner.nats)


def _likeliest(
    logits: Tensor, growing: Sequence[Hypothesis], beam: int
) -> list[tuple[int, int, float]]:
    """Return the likeliest continuations: which hypothesis, by which token, and log P of both.

    logits [W, K]: of what follows each hypothesis.
    """
    logits = logits.double()
    # Neither is text.
    logits[:, [PAD, UNK]] = -torch.inf
    nats_so_far = [hypothesis.nats for hypothesis in growing]
    so_far = torch.tensor(nats_so_far, dtype=torch.float64)  # [W]
    totals = logits.log_softmax(1) + so_far.unsqueeze(1)  # [W, K]
    # A small vocabulary may have fewer continuations than the beam has places.
    possible = int(totals.isfinite().sum())
    top = totals.flatten().topk(min(beam, possible))
    vocabulary_size = totals.shape[1]
    continuations = []
    for place, nats in zip(top.indices.tolist(), top.values.tolist(), strict=True):
        row, token = divmod(place, vocabulary_size)
        continuations.append((row, token, nats))
    return continuations
