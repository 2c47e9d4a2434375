"""Gradient clipping, in place."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def norm_factor(size: Tensor, most: float | Tensor) -> Tensor:
    """Return min(1, most/size) for a gradient of that length; 1 where `most` is infinite."""
    factor = (most / size.clamp_min(1e-30)).clamp_max(1.0)
    if isinstance(most, Tensor):
        is_unlimited = most.isinf()
    else:
        is_unlimited = torch.tensor(math.isinf(most), device=size.device)
    # The length itself may be more than the type can hold, and ∞/∞ is NaN.
    return factor.masked_fill(is_unlimited, 1.0)


def clip_norm(g: Tensor, most: float) -> None:
    """g ← g·min(1, most/‖g‖₂) (Pascanu et al. 2013, algorithm 1)."""
    g.mul_(norm_factor(g.norm(), most))


def clip_value(g: Tensor, most: Any) -> None:
    """Limit every entry to [−most, most]; most: a number, or a tensor that broadcasts against g."""
    g.clamp_(-most, most)
