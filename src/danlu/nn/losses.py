"""Losses, and their gradients in closed form.

Legend: o logits [B, K]; y class numbers [B], or numbers; weights [B], what each example counts in
the sum. The closed gradients take M networks at once, with examples as columns: o [M, K, B],
y [M, B] or [1, B], weights likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from danlu.fields import Field

Loss = Callable[[Tensor, Tensor, float, Tensor | None], Tensor]
Gradient = Callable[[Tensor, Tensor, Any, Tensor | None], tuple[Tensor, Tensor]]


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
    return _mean(-_uncertainty(log_p).pow(gamma) * log_p, weights)


def _uncertainty(log_p: Tensor) -> Tensor:
    """Return 1 − p, never quite 0: a power of 0 has no finite gradient."""
    smallest = torch.finfo(log_p.dtype).tiny
    return -torch.expm1(log_p).clamp_max(-smallest)


def cross_entropy_gradient(
    o: Tensor,
    y: Tensor,
    smoothing: Any = 0.0,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the losses [M] and their gradient by the logits, (softmax(o) − ỹ)·weights.

    smoothing: one number, or [M, 1, 1].
    """
    m, k, b = o.shape
    classes = y.unsqueeze(1).expand(m, 1, b)  # [M, 1, B]
    log_p = _log_softmax_as_stored(o)  # [M, K, B]
    loss = log_p.gather(1, classes)  # [M, 1, B]
    # The gradient is written over log p: at large populations memory's speed is what counts.
    if isinstance(smoothing, Tensor) or smoothing:
        others = smoothing / (k - 1)
        extra = 1 - smoothing - others  # ỹ is `others` everywhere, and `extra` more on the class
        loss = extra * loss + others * log_p.sum(1, keepdim=True)
        g = log_p.exp_().sub_(others)
        minus_extra = loss.new_zeros(()) - extra  # [M, 1, 1], or a number
        g.scatter_add_(1, classes, minus_extra.expand_as(loss))
    else:
        minus_one = loss.new_full((), -1.0)
        g = log_p.exp_().scatter_add_(1, classes, minus_one.expand_as(loss))
    if weights is None:
        return loss.sum((1, 2)).mul_(-1 / b), g.mul_(1 / b)
    weights = weights.unsqueeze(1)
    return -(loss * weights).sum((1, 2)), g.mul_(weights)


def _log_softmax_as_stored(o: Tensor) -> Tensor:
    """Return log softmax over K of o [M, K, B], computed along the axis densest in memory.

    Where classes are rows, the kernels run along the batch: several times faster for few classes.
    """
    classes_are_dense = o.stride(1) == 1 < o.shape[1]
    if classes_are_dense:
        return torch.log_softmax(o.mT, 2).mT
    return torch.log_softmax(o, 1)


def squared_error_gradient(
    o: Tensor,
    y: Tensor,
    smoothing: Any = 0.0,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the losses [M] and their gradient 2(o − y)·weights."""
    error = o - y.unsqueeze(1)  # [M, 1, B]
    squared = error.square()
    if weights is None:
        return squared.mean((1, 2)), error * (2 / o.shape[2])
    weights = weights.unsqueeze(1)
    return (squared * weights).sum((1, 2)), error * (2 * weights)


def huber_gradient(
    o: Tensor,
    y: Tensor,
    delta: Any = 1.0,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the losses [M] and their gradient, 2(o − y) cut at ±2δ.

    delta: a number, or [M, 1, 1].
    """
    error = o - y.unsqueeze(1)  # [M, 1, B]
    size = error.abs()
    near = torch.minimum(size, torch.as_tensor(delta, dtype=size.dtype, device=size.device))
    return _sums(near * (2 * size - near), 2 * near * error.sign(), weights)


def absolute_error_gradient(
    o: Tensor,
    y: Tensor,
    smoothing: Any = 0.0,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the losses [M] and their gradient, the sign of o − y."""
    error = o - y.unsqueeze(1)  # [M, 1, B]
    return _sums(error.abs(), error.sign(), weights)


def _sums(losses: Tensor, gradient: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the means [M] of losses [M, 1, B] and of their gradients, or sums by weights."""
    if weights is None:
        return losses.mean((1, 2)), gradient / losses.shape[2]
    weights = weights.unsqueeze(1)
    return (losses * weights).sum((1, 2)), gradient * weights


def focal_gradient(
    o: Tensor,
    y: Tensor,
    gamma: Any = 2.0,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the losses [M] and their gradient by the logits.

    That of cross-entropy times (1 − p)^γ − γ·p·(1 − p)^(γ − 1)·log p. gamma: one number, or
    [M, 1, 1].
    """
    m, _, b = o.shape
    classes = y.unsqueeze(1).expand(m, 1, b)  # [M, 1, B]
    all_log_p = _log_softmax_as_stored(o)  # [M, K, B]
    log_p = all_log_p.gather(1, classes)  # [M, 1, B]
    uncertainty = _uncertainty(log_p)
    power = uncertainty.pow(gamma)
    loss = -power * log_p
    factor = power - gamma * log_p.exp() * power / uncertainty * log_p
    if weights is None:
        share = loss.new_full((), 1 / b)
    else:
        share = weights.unsqueeze(1)
    p_minus_y = all_log_p.exp_()
    p_minus_y.scatter_add_(1, classes, loss.new_full((), -1.0).expand_as(loss))
    return (loss * share).sum((1, 2)), p_minus_y.mul_(factor * share)


def gradient_by_autograd(loss: Loss) -> Gradient:
    """Return the interface of a closed gradient for a loss without one."""

    def gradient(
        o: Tensor,
        y: Tensor,
        parameter: Any = 0.0,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        o = o.detach().requires_grad_()
        parameters = [parameter] * len(o)
        if isinstance(parameter, Tensor):
            parameters = parameter.flatten().tolist()
        losses_of_each = []
        for i, own_parameter in enumerate(parameters):
            targets = _row_of(y, i)
            own_weights = None if weights is None else _row_of(weights, i)
            losses_of_each.append(loss(o[i].t(), targets, own_parameter, own_weights))
        losses = torch.stack(losses_of_each)
        (by_outputs,) = torch.autograd.grad(losses.sum(), o)
        return losses.detach(), by_outputs

    return gradient


def _row_of(x: Tensor, i: int) -> Tensor:
    """Return network i's row of [M, B], or of [1, B] that all share."""
    return x[i] if len(x) > 1 else x[0]


LABEL_SMOOTHING = Field(
    "label_smoothing",
    float,
    0.0,
    "ε: labels become 1 − ε on the class and ε/(K − 1) on each other one.",
    hint="0.1",
    ge=0,
    lt=1,
)
GAMMA = Field(
    "gamma",
    float,
    2.0,
    "γ of focal: the loss of an example counts (1 − p)^γ, for the probability p of its class.",
    hint="2",
    ge=0,
    le=100,
)
DELTA = Field(
    "delta",
    float,
    1.0,
    "δ of huber, in standard deviations of the target: larger errors count in proportion, not "
    "squared.",
    hint="0.1",
    gt=0,
    le=1e6,
)


@dataclass(frozen=True)
class LossRule:
    """A loss: its value for one network, and its gradient for several.

    parameter: the recipe field that both take, which may differ from network to network. classes:
    whether targets are classes, else they are numbers. closed: the gradient, where there is one
    in closed form; autograd gives the others.
    """

    value: Loss
    classes: bool = True
    parameter: Field | None = None
    closed: Gradient | None = None

    @property
    def gradient(self) -> Gradient:
        """The losses of M networks, and their gradients by the outputs."""
        return self.closed or gradient_by_autograd(self.value)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The recipe fields it reads."""
        return (self.parameter,) if self.parameter else ()


LOSSES: dict[str, LossRule] = {
    "cross-entropy": LossRule(
        cross_entropy, parameter=LABEL_SMOOTHING, closed=cross_entropy_gradient
    ),
    "cross-entropy-explicit": LossRule(cross_entropy_explicit, parameter=LABEL_SMOOTHING),
    "focal": LossRule(focal, parameter=GAMMA, closed=focal_gradient),
    "squared-error": LossRule(squared_error, classes=False, closed=squared_error_gradient),
    "huber": LossRule(huber, classes=False, parameter=DELTA, closed=huber_gradient),
    "absolute-error": LossRule(absolute_error, classes=False, closed=absolute_error_gradient),
}


def resolve_loss(name: str, classes: bool) -> str:
    """Return what "auto" stands for: cross-entropy for classes, squared error for numbers."""
    if name != "auto":
        return name
    return "cross-entropy" if classes else "squared-error"


def balanced_weights(counts: Tensor) -> Tensor:
    """Return class weights N/(K·n_k), so that every class counts alike."""
    examples, classes = counts.sum(), len(counts)
    # A class without examples weighs as one with a single example.
    weights = examples / (classes * counts.clamp_min(1))
    return weights.float()
