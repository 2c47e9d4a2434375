"""Gradient clipping, in place."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def norm_factor(size: Tensor, most: float | Tensor) -> Tensor:
    """min(1, most/size): what a gradient of that length is multiplied by; 1 where `most` is infinite."""
    factor = (most / size.clamp_min(1e-30)).clamp_max(1.0)
    endless = (
        most.isinf()
        if isinstance(most, Tensor)
        else torch.tensor(math.isinf(most), device=size.device)
    )
    return factor.masked_fill(
        endless, 1.0
    )  # also where the length itself is more than the type can hold


def clip_norm(g: Tensor, most: float) -> None:
    """g ← g·min(1, most/‖g‖₂) (Pascanu et al. 2013, algorithm 1)."""
    g.mul_(norm_factor(g.norm(), most))


def clip_value(g: Tensor, most: float | Tensor) -> None:
    """Every entry into [−most, most]; most: a number, or a tensor that broadcasts against g."""
    if isinstance(most, Tensor):
        g.clamp_(-most, most)
    else:
        g.clamp_(-most, most)
