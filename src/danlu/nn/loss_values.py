"""Losses of one network.

Legend: o logits [B, K]; y class numbers [B], or numbers; weights [B], what each example counts in
the sum.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth_labels(
    y: Tensor,
    classes: int,
    smoothing: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return soft labels [B, K]: 1 − ε on the class, ε/(K − 1) on each other one."""
    others = smoothing / (classes - 1)
    soft = torch.full((len(y), classes), others, dtype=dtype, device=y.device)  # [B, K]
    return soft.scatter_(1, y[:, None], 1 - smoothing)


def example_weights(
    y: Tensor,
    average_batch: Any,
    class_weights: Tensor | None = None,
    counts: Tensor | None = None,
) -> Tensor:
    """Return what each target y [..., n] of a batch counts in its loss.

    class_weights [K]; counts [..., n]: how often each is in the sample (0: left out).
    average_batch: what so many examples weigh on average over the training part, a number or
    [..., 1]. Divided by that, the gradients of an epoch's batches have the gradient of the whole
    part for their mean. Divided by what they weigh themselves, as PyTorch's weighted mean does,
    weights fade with the batch size (pytorch#61309).
    """
    if class_weights is None:
        weights = torch.ones_like(y, dtype=torch.get_default_dtype())
    else:
        weights = class_weights[y]
    if counts is not None:
        weights = weights * counts
    shares: Tensor = weights / average_batch
    return shares


def cross_entropy(
    o: Tensor,
    y: Tensor,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean of −Σₖ ỹₖ log softmax(o)ₖ with soft labels ỹ.

    PyTorch's log-softmax takes the maximum out, so logits of ±10⁴ stay finite.
    """
    if smoothing == 0 and weights is None:
        return F.cross_entropy(o, y)
    log_p = F.log_softmax(o, 1)  # [B, K]
    of_class = log_p.gather(1, y[:, None]).squeeze(1)  # [B]
    of_others = log_p.sum(1) - of_class
    share_of_each = smoothing / (o.shape[1] - 1)
    loss = -((1 - smoothing) * of_class + share_of_each * of_others)
    return _mean(loss, weights)


def _mean(loss: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of each example's loss [B], or their sum by weights where there are any."""
    if weights is None:
        return loss.mean()
    return (loss * weights).sum()


class _CrossEntropy(torch.autograd.Function):
    """−Σ ỹ (o − m − log Σ exp(o − m)) and its gradient softmax(o) − ỹ, both written out."""

    @staticmethod
    def forward(ctx: Any, o: Tensor, soft: Tensor, weights: Tensor) -> Tensor:
        # The largest logit is taken out first: exp of 10⁴ is infinite.
        shifted = o - o.amax(1, keepdim=True)
        log_sum = shifted.exp().sum(1, keepdim=True).log()
        log_p = shifted - log_sum
        ctx.save_for_backward(log_p.exp(), soft, weights)
        of_example = (soft * log_p).sum(1)  # [B]
        return -(of_example * weights).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        p, soft, weights = ctx.saved_tensors
        by_logits = grads[0] * (p - soft) * weights[:, None]
        return by_logits, None, None


def cross_entropy_explicit(
    o: Tensor,
    y: Tensor,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Return cross-entropy by a log-sum-exp written out, with gradient (softmax(o) − ỹ)/B."""
    if weights is None:
        weights = torch.full_like(o[:, 0], 1 / len(o))
    soft = smooth_labels(y, o.shape[1], smoothing, o.dtype)
    loss: Tensor = _CrossEntropy.apply(o, soft, weights.to(o.dtype))  # type: ignore[no-untyped-call]
    return loss


def squared_error(
    o: Tensor,
    y: Tensor,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean of (o − y)² over the batch; o [B, 1], y [B]."""
    error = o.squeeze(1) - y  # [B]
    return _mean(error.square(), weights)


def huber(
    o: Tensor,
    y: Tensor,
    delta: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean of e² for |e| ≤ δ and δ(2|e| − δ) beyond, e = o − y (Huber 1964).

    Twice the usual form, so that near 0 it is the squared error.
    """
    size = (o.squeeze(1) - y).abs()  # [B]
    near = size.clamp_max(delta)
    return _mean(near * (2 * size - near), weights)


def absolute_error(
    o: Tensor,
    y: Tensor,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean of |o − y|: the median is learnt, which outliers do not move."""
    return _mean((o.squeeze(1) - y).abs(), weights)


def focal(
    o: Tensor,
    y: Tensor,
    gamma: float = 2.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean of −(1 − p)^γ log p for p = softmax(o) of the class (Lin et al. 2017).

    What is known well counts less; γ = 0 is cross-entropy.
    """
    log_p = F.log_softmax(o, 1).gather(1, y[:, None]).squeeze(1)  # [B]
    return _mean(-uncertainty(log_p).pow(gamma) * log_p, weights)


def uncertainty(log_p: Tensor) -> Tensor:
    """Return 1 − p, never quite 0: a power of 0 has no finite gradient."""
    smallest = torch.finfo(log_p.dtype).tiny
    return -torch.expm1(log_p).clamp_max(-smallest)
