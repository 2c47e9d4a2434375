"""Losses. Legend: o logits [B, K], y class numbers [B], w class weights [K]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten


def smooth_labels(y: Tensor, classes: int, smoothing: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Soft labels [B, K]: 1 − ε on the class, ε/(K − 1) on each other one."""
    soft = torch.full((len(y), classes), smoothing / (classes - 1), dtype=dtype, device=y.device)
    return soft.scatter_(1, y[:, None], 1 - smoothing)


def cross_entropy(o: Tensor, y: Tensor, smoothing: float = 0.0, w: Tensor | None = None) -> Tensor:
    """Mean of −Σₖ ỹₖ log softmax(o)ₖ with soft labels ỹ; weighted by w[y] and divided by Σ w[y] when given.

    The framework's log-softmax takes the maximum out, so logits of ±10⁴ stay finite.
    """
    if smoothing == 0:
        return F.cross_entropy(o, y, w)
    k = o.shape[1]
    log_p = F.log_softmax(o, 1)
    own = log_p.gather(1, y[:, None]).squeeze(1)
    others = log_p.sum(1) - own
    loss = -((1 - smoothing) * own + (smoothing / (k - 1)) * others)
    return loss.mean() if w is None else (loss * w[y]).sum() / w[y].sum()


class _CrossEntropy(torch.autograd.Function):
    """−Σ ỹ (o − m − log Σ exp(o − m)) and its gradient softmax(o) − ỹ, both written out."""

    @staticmethod
    def forward(ctx: Any, o: Tensor, soft: Tensor, w: Tensor) -> Tensor:
        shifted = o - o.amax(1, keepdim=True)
        log_p = shifted - shifted.exp().sum(1, keepdim=True).log()
        ctx.save_for_backward(log_p.exp(), soft, w)
        return -((soft * log_p).sum(1) * w).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        p, soft, w = ctx.saved_tensors
        return grads[0] * (p - soft) * w[:, None], None, None


def cross_entropy_explicit(o: Tensor, y: Tensor, smoothing: float = 0.0, w: Tensor | None = None) -> Tensor:
    """The same from first principles: log-sum-exp by hand, gradient (softmax(o) − ỹ)/B."""
    per = torch.ones_like(o[:, 0]) if w is None else w[y].to(o.dtype)
    loss: Tensor = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        o, smooth_labels(y, o.shape[1], smoothing, o.dtype), per / per.sum()
    )
    return loss


def squared_error(o: Tensor, y: Tensor, smoothing: float = 0.0, w: Tensor | None = None) -> Tensor:
    """Mean of (o − y)² over the batch; o [B, 1], y [B]."""
    return F.mse_loss(o.squeeze(1), y)


LOSSES: dict[str, Callable[[Tensor, Tensor, float, Tensor | None], Tensor]] = {
    "cross-entropy": cross_entropy,
    "cross-entropy-explicit": cross_entropy_explicit,
    "squared-error": squared_error,
}


def cross_entropy_gradient(o: Tensor, y: Tensor, smoothing: float = 0.0, w: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The loss and its gradient by the logits, (softmax(o) − ỹ)/B, weighted like the loss.

    Classes are worked on as rows: the kernels then run along the batch, which is several times faster for few classes.
    """
    k, rows = o.shape[1], y.unsqueeze(0)  # [1, B]
    per = 1 / len(y) if w is None else w[y] / w[y].sum()
    log_p = torch.log_softmax(o.t(), 0)  # [K, B]
    own = log_p.gather(0, rows)
    rest = smoothing / (k - 1) if smoothing else 0.0  # ỹ is `rest` everywhere, and `more` more on the class itself
    more = 1 - smoothing - rest
    if smoothing == 0:
        loss, g = own, log_p.exp_()
    else:
        loss = more * own + rest * log_p.sum(0)
        g = log_p.exp_().sub_(rest)
    g.scatter_add_(0, rows, torch.full_like(own, -more)).mul_(per)
    return -(loss * per).sum(), g.t()


def squared_error_gradient(o: Tensor, y: Tensor, smoothing: float = 0.0, w: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The loss and its gradient 2(o − y)/B."""
    gap = o - y.unsqueeze(1)
    return gap.square().mean(), gap * (2 / len(o))


GRADIENTS: dict[str, Callable[[Tensor, Tensor, float, Tensor | None], tuple[Tensor, Tensor]]] = {
    "cross-entropy": cross_entropy_gradient,
    "squared-error": squared_error_gradient,
}


def chosen(name: str, classes: bool) -> str:
    """The loss that "auto" stands for: cross-entropy for classes, squared error for numbers."""
    return name if name != "auto" else "cross-entropy" if classes else "squared-error"


def balanced_weights(counts: Tensor) -> Tensor:
    """Class weights N/(K·n_k), so that every class counts alike."""
    return (counts.sum() / (len(counts) * counts.clamp_min(1))).float()
