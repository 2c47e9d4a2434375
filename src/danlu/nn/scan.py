"""A recurrent cell over all steps of a sequence, as a function that autograd and `vmap` know.

Legend: T steps, M networks, B examples, H units, G gates, E extra vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from danlu.nn.cells import CELLS

# Where M stands in x, w, extra, h0, c0.
_MEMBER_AXES = (1, 0, 0, 0, 0)


def _without_member_axis(by_inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return gradients by x, w, extra, h0, c0 as those of one network."""
    squeezed: list[Tensor | None] = []
    for gradient, axis in zip(by_inputs, _MEMBER_AXES, strict=True):
        if gradient is None:
            squeezed.append(None)
        else:
            squeezed.append(gradient.squeeze(axis))
    return squeezed


class _Scan(torch.autograd.Function):
    """A cell over all steps of one network, or of M where `vmap` asks for them.

    c is empty for cells without a memory. One network's tensors lack the M axis.
    """

    @staticmethod
    def forward(name: str, x: Tensor, w: Tensor, extra: Tensor, h0: Tensor, c0: Tensor) -> Any:
        cell = CELLS[name]
        is_single = x.ndim == 3
        if is_single:
            x = x.unsqueeze(1)
            w, extra, h0, c0 = (tensor.unsqueeze(0) for tensor in (w, extra, h0, c0))
        steps = len(x)
        h = x.new_empty(steps + 1, *h0.shape)  # [T + 1, M, B, H]
        h[0] = h0
        c = c_after = x.new_empty(0)
        if cell.memory:
            c = torch.empty_like(h)
            c[0] = c0
            c_after = c[1:]
        saved = cell.forward(x.contiguous(), w.contiguous(), extra, h, c)
        h_after = h[1:]  # [T, M, B, H]
        if is_single:
            h_after = h_after.squeeze(1)
        if is_single and cell.memory:
            c_after = c_after.squeeze(1)
        return h_after, c_after, h, c, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        name, x, w, extra, *_ = inputs
        _, _, *kept = output
        ctx.name = name
        ctx.is_single = x.ndim == 3
        # What is kept for the pass backward is no result.
        ctx.mark_non_differentiable(*kept)
        # A gradient of zeros would be added at every step.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(w, extra, *kept)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        w, extra, h, c, *saved = ctx.saved_tensors
        cell = CELLS[ctx.name]
        grad_h = _used_gradient(grads[0], ctx.is_single)
        grad_c = _used_gradient(grads[1], ctx.is_single)
        if ctx.is_single:
            w = w.unsqueeze(0)
            extra = extra.unsqueeze(0)
        # A loss may depend on the last cell state alone.
        if grad_h is None:
            grad_h = torch.zeros_like(h[1:])
        by_inputs: Sequence[Tensor | None] = cell.backward(
            grad_h, grad_c, w.contiguous(), extra, h, c, tuple(saved)
        )
        if ctx.is_single:
            by_inputs = _without_member_axis(by_inputs)
        dx, dw, d_extra, dh, dc = by_inputs
        if not cell.memory:
            dc = None
        return None, dx, dw, d_extra, dh, dc

    @staticmethod
    def vmap(info: Any, in_dims: Any, name: str, *args: Tensor) -> Any:
        batched = []
        for tensor, dim, axis in zip(args, in_dims[1:], _MEMBER_AXES, strict=True):
            if dim is None:  # shared by all networks
                shape = list(tensor.shape)
                shape.insert(axis, info.batch_size)
                batched.append(tensor.unsqueeze(axis).expand(shape))
            else:
                batched.append(tensor.movedim(dim, axis))
        outputs = _Scan.apply(name, *batched)  # type: ignore[no-untyped-call]
        out_dims = tuple(1 if out.ndim > 1 else None for out in outputs)
        return outputs, out_dims


def _used_gradient(grad: Tensor | None, is_single: bool) -> Tensor | None:
    """Return a gradient from outside [T, M, B, H]; None where the loss does not depend on it."""
    if grad is None or not grad.numel():
        return None
    if is_single:
        return grad.unsqueeze(1)
    return grad


def scan(
    name: str, x: Tensor, w: Tensor, extra: Tensor, h0: Tensor, c0: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the states h and c [T, B, H] after every step of one network.

    c is empty for cells without a memory. x [T, B, G·H], w [H, G·H], extra [E, H], h0 [B, H],
    c0 [B, H] (or empty).
    """
    # What is written into prepared tensors must be of their type, so no autocast in here.
    with torch.autocast(x.device.type, enabled=False):
        inputs = [tensor.to(w.dtype) for tensor in (x, w, extra, h0, c0)]
        h, c, *_ = _Scan.apply(name, *inputs)  # type: ignore[no-untyped-call]
    return h, c
