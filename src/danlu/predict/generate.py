"""Continuing a text with a language model."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from danlu.data.vocabulary import EOS, PAD, UNK, Vocabulary
from danlu.errors import Mistake, RunError, wrong
from danlu.nn.protocols import NextToken, State
from danlu.predict.text import AT_ONCE, encode_checked
from danlu.predict.trained import Trained, vocabulary_for
from danlu.rng import stream

# Tokens before the new ones that are decoded with them: some characters take several tokens.
_OVERLAP = 8


def whole_number_mistakes(**given: tuple[Any, int, int]) -> list[Mistake]:
    """Return what is wrong with whole numbers by name: (given, the least, what to try)."""
    mistakes = []
    for name, (value, least, good) in given.items():
        if not isinstance(value, numbers.Integral):
            mistakes.append(wrong(name, value, "must be a whole number", f"try {good}"))
        elif value < least:
            mistakes.append(wrong(name, value, f"must be at least {least}", f"try {good}"))
    return mistakes


def generate(
    trained: Trained,
    prompt: str = "",
    temperature: float = 0.8,
    top_k: int = 0,
    length: int = 500,
    seed: int = 0,
) -> Iterator[str]:
    """Continue a prompt, piece by piece, until `<eos>` or for `length` tokens.

    temperature: logits are divided by it; 0 takes the likeliest token each time. top_k: draw only
    among the k likeliest. Raises RunError for options out of range, or a prompt that holds nothing
    the network knows.
    """
    vocabulary = vocabulary_for(trained, "language")
    mistakes = []
    is_number = isinstance(temperature, numbers.Real)
    if not is_number or not 0 <= temperature < math.inf:
        rule = "must be at least 0, and finite"
        mistakes.append(wrong("temperature", temperature, rule, "try 0.8"))
    mistakes += whole_number_mistakes(top_k=(top_k, 0, 40), length=(length, 1, 500))
    if mistakes:
        raise RunError(*mistakes)
    start: list[int] = []
    if prompt:
        (row,) = encode_checked(vocabulary.encode_all, [prompt], blank=True)
        start = row.tolist()
    tokens = _tokens(trained, start, temperature, top_k, length, seed)
    return _decoded(vocabulary, start, tokens)


def _tokens(
    trained: Trained,
    start: list[int],
    temperature: float,
    top_k: int,
    length: int,
    seed: int,
) -> Iterator[int]:
    """Yield the tokens that follow those of the start."""
    model = cast(NextToken, trained.model())
    generator = stream(seed, "generate")
    state: State | None = None
    unread = [EOS, *start]  # `<eos>` begins a text, too
    for _ in range(length):
        x = torch.tensor([unread], dtype=torch.int32)
        with torch.no_grad():
            for piece in x.split(AT_ONCE, 1):  # a long prompt is read in pieces
                logits, state = model.step(piece, state)
        token = draw(logits[0], temperature, top_k, generator)
        if token == EOS:
            return
        yield token
        unread = [token]


def _decoded(vocabulary: Vocabulary, start: list[int], tokens: Iterator[int]) -> Iterator[str]:
    """Yield the text of tokens as soon as it is whole."""
    written = list(start)
    shown = len(start)
    decode_from = max(0, shown - _OVERLAP)

    def unseen() -> str:
        """Return the text that is not shown yet: a token may look different after others."""
        before = vocabulary.decode(written[decode_from:shown])
        return vocabulary.decode(written[decode_from:])[len(before) :]

    for token in tokens:
        written.append(token)
        text = unseen()
        if text.endswith("�"):  # a character of several bytes is not whole yet
            continue
        yield text
        decode_from, shown = shown, len(written)
    if shown < len(written):
        yield unseen()


def draw(logits: Tensor, temperature: float, top_k: int, g: torch.Generator) -> int:
    """Draw a token by its logits [K]; never padding or the unknown token."""
    logits = logits.double().clone()
    logits[[PAD, UNK]] = -torch.inf
    if top_k:
        drawable = len(logits) - 2
        likeliest = logits.topk(min(top_k, drawable)).values  # from the largest down
        logits[logits < likeliest[-1]] = -torch.inf
    if temperature == 0:
        return int(logits.argmax())
    # The largest is taken out first, so that a tiny temperature gives no infinities.
    shifted = logits - logits.max()
    p = (shifted / temperature).softmax(0)
    return int(torch.multinomial(p, 1, generator=g))
