"""Information in nats or bits.

Distributions are vectors (or rows) that sum to 1; 0·log 0 counts as 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

UNITS = {"nats": 1.0, "bits": 1 / math.log(2)}


def self_information(p: Tensor, unit: str = "nats") -> Tensor:
    """−log P."""
    return -p.log() * UNITS[unit]


def entropy(p: Tensor, unit: str = "nats") -> Tensor:
    """H(p) = −Σ p log p over the last axis."""
    return cross_entropy(p, p, unit)


def cross_entropy(p: Tensor, q: Tensor, unit: str = "nats") -> Tensor:
    """H(p, q) = −Σ p log q; never below H(p) (Gibbs)."""
    return -torch.xlogy(p, q).sum(-1) * UNITS[unit]


def divergence(p: Tensor, q: Tensor, unit: str = "nats") -> Tensor:
    """KL(p ‖ q) = H(p, q) − H(p)."""
    return cross_entropy(p, q, unit) - entropy(p, unit)


def perplexity(nats: float) -> float:
    """Return exp of a mean cross-entropy in nats: as many equally likely choices."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
