"""Texts as rows of token numbers. Legend: N examples, T tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from danlu.data.memmap import Array, allocate
from danlu.data.reading_memory import reading_budget
from danlu.data.vocabulary import EOS, PAD, UNK
from danlu.errors import DataError


def pad(rows: Sequence[Sequence[int] | Array], fill: int = PAD, width: int | None = None) -> Array:
    """Return rows of unequal length as one array [N, T] of int32, on disk where it is large."""
    if width is None:
        width = max(map(len, rows))
    padded = allocate((len(rows), width), np.int32, reading_budget())
    padded[:] = fill
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


def trim_padding(x: Tensor, y: Tensor, source: int = 0) -> tuple[Tensor, Tensor]:
    """Return tokens x [..., T] without columns of padding alone, and their targets.

    source: how many columns come before the first that has a target.
    """
    is_used = (x != PAD).flatten(0, -2).any(0)  # [T]
    last_used = int(is_used.nonzero()[-1])
    end = last_used + 1
    has_target_per_token = y.ndim == x.ndim
    if has_target_per_token:
        y = y[..., : end - source]
    return x[..., :end], y


def word_dropout(x: Tensor, share: float, g: torch.Generator) -> Tensor:
    """Return tokens x [B, T] of which a share is unknown; padding and ends of text stay.

    (Iyyer et al. 2015.)
    """
    # Drawn on the CPU, so that a GPU trains on the same tokens.
    drawn = torch.rand(x.shape, generator=g) < share
    is_ordinary = x > EOS
    dropped = drawn.to(x.device) & is_ordinary
    return torch.where(dropped, UNK, x)


def check_encodable(text: str, place: str) -> str:
    """Return the text. Raises DataError where it holds half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as e:
        half = ord(text[e.start])
        raise DataError(f"{place} holds U+{half:04X}, half of a surrogate pair; correct it") from e
    return text


def tokenize(sentence: str, known: Collection[str], spaced: bool) -> list[str]:
    """Return a sentence as the tokens of a tagger.

    Cut at spaces, or character by character with the longest known tokens first.
    """
    if spaced:
        return sentence.split()
    longest = max(map(len, known), default=1)
    tokens = []
    start = 0
    while start < len(sentence):
        if sentence[start].isspace():
            start += 1
            continue
        end = start + longest
        # The longest token first; a single character is always one.
        while end > start + 1 and sentence[start:end] not in known:
            end -= 1
        token = sentence[start:end]
        tokens.append(token)
        start += len(token)
    return tokens
