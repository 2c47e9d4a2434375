"""Gradient clipping, in place."""

from __future__ import annotations

from torch import Tensor


def clip_norm(g: Tensor, most: float) -> None:
    """g ← g·min(1, most/‖g‖₂) (Pascanu et al. 2013, algorithm 1)."""
    size = g.norm()
    g.mul_((most / size.clamp_min(1e-30)).clamp_max(1.0))


def clip_value(g: Tensor, most: float) -> None:
    """Every entry into [−most, most]."""
    g.clamp_(-most, most)
