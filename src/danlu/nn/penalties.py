"""Penalties on the weights w (biases are left out), for m training examples."""

from __future__ import annotations

import torch
from torch import Tensor


def l1(w: Tensor, strength: float, m: int, eps: float = 1e-8) -> Tensor:
    """λ/(2m)·Σ √(w² + ε), the smooth form of λ/(2m)·Σ|w|."""
    return (w.square() + eps).sqrt().sum() * (strength / (2 * m))


def l1_gradient(
    w: Tensor, strength: float | Tensor, m: float | Tensor, eps: float | Tensor = 1e-8
) -> Tensor:
    """λ/(2m)·w/√(w² + ε); λ, m and ε are numbers, or tensors that broadcast against w."""
    return w * (w.square() + eps).rsqrt() * (strength / (2 * m))


def l2(w: Tensor, strength: float, m: int) -> Tensor:
    """λ/(2m)·Σ w²."""
    return w.square().sum() * (strength / (2 * m))


def l2_gradient(w: Tensor, strength: float | Tensor, m: float | Tensor) -> Tensor:
    """λ/m·w; λ and m as above."""
    return w * (strength / m)


def norm(w: Tensor, p: float) -> Tensor:
    """‖w‖ₚ = (Σ|w|ᵖ)^(1/p); p = ∞ gives the largest |w|."""
    if p == float("inf"):
        return w.abs().max()
    return torch.as_tensor(w.abs().pow(p).sum().pow(1 / p))
