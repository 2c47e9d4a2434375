"""Gradients of losses in closed form, of several networks at once.

Legend: M networks, with examples as columns: outputs o [M, K, B]; y class numbers [M, B] or [1, B],
or numbers; weights [M, B] or [1, B], what each example counts in the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from danlu.nn.loss_values import uncertainty

Loss = Callable[[Tensor, Tensor, float, Tensor | None], Tensor]
Gradient = Callable[[Tensor, Tensor, Any, Tensor | None], tuple[Tensor, Tensor]]


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
    rest = uncertainty(log_p)
    power = rest.pow(gamma)
    loss = -power * log_p
    factor = power - gamma * log_p.exp() * power / rest * log_p
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
