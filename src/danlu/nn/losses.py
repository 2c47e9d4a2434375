"""Losses. Legend: o logits [B, K], y class numbers [B], per [B] what each example counts (they sum to 1).

The closed gradients take M networks at once, with examples as columns: o [M, K, B], y [M, B] or [1, B], per likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, float, Tensor | None], Tensor]
Gradient = Callable[[Tensor, Tensor, Any, Tensor | None], tuple[Tensor, Tensor]]


def smooth_labels(
    y: Tensor, classes: int, smoothing: float, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Soft labels [B, K]: 1 − ε on the class, ε/(K − 1) on each other one."""
    soft = torch.full((len(y), classes), smoothing / (classes - 1), dtype=dtype, device=y.device)
    return soft.scatter_(1, y[:, None], 1 - smoothing)


def shares(
    y: Tensor, class_weights: Tensor | None, counts: Tensor | None = None
) -> tuple[Tensor | None, Any]:
    """What each example of a batch counts, summing to 1 along the batch (None for all alike), and the batch as a whole.

    class_weights [K]; counts [..., B]: how often each example is in the sample (0: left out).
    """
    if class_weights is None and counts is None:
        return None, y.shape[-1]
    w = torch.ones((), device=y.device) if class_weights is None else class_weights[y]
    w = w if counts is None else w * counts
    whole = w.sum(-1, keepdim=True)
    return w / whole.clamp_min(1e-30), whole


def cross_entropy(
    o: Tensor, y: Tensor, smoothing: float = 0.0, per: Tensor | None = None
) -> Tensor:
    """Mean of −Σₖ ỹₖ log softmax(o)ₖ with soft labels ỹ.

    The framework's log-softmax takes the maximum out, so logits of ±10⁴ stay finite.
    """
    if smoothing == 0 and per is None:
        return F.cross_entropy(o, y)
    k = o.shape[1]
    log_p = F.log_softmax(o, 1)
    own = log_p.gather(1, y[:, None]).squeeze(1)
    others = log_p.sum(1) - own
    loss = -((1 - smoothing) * own + (smoothing / (k - 1)) * others)
    return loss.mean() if per is None else (loss * per).sum()


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


def cross_entropy_explicit(
    o: Tensor, y: Tensor, smoothing: float = 0.0, per: Tensor | None = None
) -> Tensor:
    """The same from first principles: log-sum-exp by hand, gradient (softmax(o) − ỹ)/B."""
    per = torch.full_like(o[:, 0], 1 / len(o)) if per is None else per.to(o.dtype)
    loss: Tensor = _CrossEntropy.apply(o, smooth_labels(y, o.shape[1], smoothing, o.dtype), per)  # type: ignore[no-untyped-call]
    return loss


def squared_error(
    o: Tensor, y: Tensor, smoothing: float = 0.0, per: Tensor | None = None
) -> Tensor:
    """Mean of (o − y)² over the batch; o [B, 1], y [B]."""
    gap = o.squeeze(1) - y
    return gap.square().mean() if per is None else (gap.square() * per).sum()


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "cross-entropy-explicit": cross_entropy_explicit,
    "squared-error": squared_error,
}


def cross_entropy_gradient(
    o: Tensor, y: Tensor, smoothing: Any = 0.0, per: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The losses [M] and their gradient by the logits, (softmax(o) − ỹ)·per.

    Classes are rows: the kernels then run along the batch, which is several times faster for few classes.
    smoothing: one number, or [M, 1, 1].
    """
    m, k, b = o.shape
    rows = y.unsqueeze(1).expand(m, 1, b)
    log_p = (
        torch.log_softmax(o.mT, 2).mT if o.stride(1) == 1 < k else torch.log_softmax(o, 1)
    )  # as they lie in memory
    loss = log_p.gather(1, rows)
    if isinstance(smoothing, Tensor) or smoothing:
        rest = smoothing / (k - 1)  # ỹ is `rest` everywhere, and `more` more on the class itself
        more = 1 - smoothing - rest
        loss = more * loss + rest * log_p.sum(1, keepdim=True)
        g = log_p.exp_().sub_(rest)
        g.scatter_add_(1, rows, (loss.new_zeros(()) - more).expand_as(loss))
    else:
        g = log_p.exp_().scatter_add_(1, rows, loss.new_full((), -1.0).expand_as(loss))
    if per is None:
        return loss.sum((1, 2)).mul_(-1 / b), g.mul_(1 / b)
    per = per.unsqueeze(1)
    return -(loss * per).sum((1, 2)), g.mul_(per)


def squared_error_gradient(
    o: Tensor, y: Tensor, smoothing: Any = 0.0, per: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The losses [M] and their gradient 2(o − y)·per."""
    gap = o - y.unsqueeze(1)
    if per is None:
        return gap.square().mean((1, 2)), gap * (2 / o.shape[2])
    per = per.unsqueeze(1)
    return (gap.square() * per).sum((1, 2)), gap * (2 * per)


def gradient_by_autograd(loss: Loss) -> Gradient:
    """The same interface for a loss without a closed gradient."""

    def gradient(
        o: Tensor, y: Tensor, smoothing: Any = 0.0, per: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        o = o.detach().requires_grad_()
        of = smoothing.flatten().tolist() if isinstance(smoothing, Tensor) else [smoothing] * len(o)
        values = []
        for i, eps in enumerate(of):
            own = None if per is None else per[i if len(per) > 1 else 0]
            values.append(loss(o[i].t(), y[i if len(y) > 1 else 0], eps, own))
        losses = torch.stack(values)
        return losses.detach(), torch.autograd.grad(losses.sum(), o)[0]

    return gradient


GRADIENTS: dict[str, Gradient] = {
    "cross-entropy": cross_entropy_gradient,
    "squared-error": squared_error_gradient,
}


def chosen(name: str, classes: bool) -> str:
    """The loss that "auto" stands for: cross-entropy for classes, squared error for numbers."""
    return name if name != "auto" else "cross-entropy" if classes else "squared-error"


def balanced_weights(counts: Tensor) -> Tensor:
    """Class weights N/(K·n_k), so that every class counts alike."""
    return (counts.sum() / (len(counts) * counts.clamp_min(1))).float()
