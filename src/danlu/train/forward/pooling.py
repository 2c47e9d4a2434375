"""Max pooling by explicit passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from danlu.train.forward.bound_layer import BoundLayer, ForwardBackward

threshold_into = torch.ops.aten.threshold_backward.grad_input


def _halves(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the even and the odd places along an axis."""
    before = (slice(None),) * dim
    even = (*before, slice(0, None, 2))
    odd = (*before, slice(1, None, 2))
    return x[even], x[odd]


def _to_larger(g: Tensor, x: Tensor, dim: int) -> Tensor:
    """Return the gradient given to the larger neighbour, of equals to the first."""
    out = torch.empty_like(x)
    first, second = _halves(x, dim)
    to_first, to_second = _halves(out, dim)
    torch.sub(second, first, out=to_second)
    # Where the second is larger, it gets the gradient, else 0: as ReLU's, in one pass.
    threshold_into(g, to_second, 0, grad_input=to_second)
    # The first gets what the second did not.
    torch.sub(g, to_second, out=to_first)
    return out


def max_pool(layer: BoundLayer) -> ForwardBackward:
    """2×2: the maximum of neighbours in a row, then of those below each other.

    On a CPU several times as fast as the library. In both layouts axis 2 counts rows and axis 3
    columns. Of equals the first in reading order gets the gradient, as in the library.
    """

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        left, right = _halves(x, 3)
        halved = torch.maximum(left, right)  # half the columns
        upper, lower = _halves(halved, 2)
        out = torch.maximum(upper, lower)  # half the rows
        return out, (x, halved)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        x, halved = saved
        by_halved = _to_larger(g, halved, 2)
        return _to_larger(by_halved, x, 3)

    return ForwardBackward(forward, backward)
