"""Penalties on the weights w (biases are left out), for m training examples."""

from __future__ import annotations

import torch
from torch import Tensor

Number = float | Tensor  # a number, or a tensor that broadcasts against w


def l1(w: Tensor, strength: float, m: int, eps: float = 1e-8) -> Tensor:
    """λ/(2m)·Σ √(w² + ε), the smooth form of λ/(2m)·Σ|w|."""
    sizes = (w.square() + eps).sqrt()
    scale = strength / (2 * m)
    return sizes.sum() * scale


def l1_gradient(w: Tensor, strength: Number, m: Number, eps: Number = 1e-8) -> Tensor:
    """λ/(2m)·w/√(w² + ε)."""
    sign = w * (w.square() + eps).rsqrt()
    scale = strength / (2 * m)
    return sign * scale


def l2(w: Tensor, strength: float, m: int) -> Tensor:
    """λ/(2m)·Σ w²."""
    scale = strength / (2 * m)
    return w.square().sum() * scale


def l2_gradient(w: Tensor, strength: Number, m: Number) -> Tensor:
    """λ/m·w."""
    return w * (strength / m)


def norm(w: Tensor, p: float) -> Tensor:
    """‖w‖ₚ = (Σ|w|ᵖ)^(1/p); p = ∞ gives the largest |w|."""
    sizes = w.abs()
    if p == float("inf"):
        return sizes.max()
    total = sizes.pow(p).sum()
    return torch.as_tensor(total.pow(1 / p))
