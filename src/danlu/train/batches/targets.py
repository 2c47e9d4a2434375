"""Targets of every token, as the losses take them.

Legend: M networks, B examples, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor


def tokens_in_a_row(
    y: Tensor, counts: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Return targets [M or 1, B·T] for y [M or 1, B, T], and how often each counts.

    −1, where there is no target, does not count. counts [M, B]: of each example; None where each
    counts once.
    """
    has_target = (y >= 0).to(dtype)  # [M or 1, B, T]
    if counts is not None:
        counts = (has_target * counts.unsqueeze(2)).flatten(1)
    elif not bool(has_target.all()):
        counts = has_target.flatten(1)
    # −1 is no class number that a kernel could take; its weight is 0.
    targets = y.clamp_min(0).flatten(1)
    return targets, counts
