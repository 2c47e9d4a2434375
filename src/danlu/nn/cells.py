"""Recurrent cells, step by step through time, with their gradients written out.

A cell is a row of `CELLS`: a pass forward over all steps and one backward (back-propagation through
time). Both take M networks at once, so a population is vectorised; each step is a few operations
without a graph. `scan` runs a cell on the inputs of its gates.

Legend: T steps, M networks, B examples, H units, G gates, E extra vectors.
x [T, M, B, G·H] what the input brings to the gates (biases included); w [M, H, G·H] the recurrent
weights; extra [M, E, H] what else a cell has (peepholes, a bias); h, c [T + 1, M, B, H] states, the
first before the first step. d… is the gradient of the loss by …; grad_h, grad_c [T, M, B, H] are
those that come from outside, by each step's states.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Saved = tuple[Tensor, ...]


def _steps(*tensors: Tensor) -> Any:
    """Return the steps of several tensors side by side.

    Unbinding once is cheaper than indexing at every step.
    """
    return zip(*(tensor.unbind() for tensor in tensors), strict=True)


def _steps_backward(*tensors: Tensor) -> Any:
    return reversed(list(_steps(*tensors)))


def _weight_gradient(h: Tensor, d: Tensor) -> Tensor:
    """Return Σ h⊗d over steps and examples: the gradient of the recurrent weights."""
    rows = h.transpose(0, 1).flatten(1, 2)
    return torch.bmm(rows.mT, d.transpose(0, 1).flatten(1, 2))


def _rnn(
    activate: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]
) -> tuple[Any, Any]:
    """h ← g(x + hW) (the notes' a⟨t⟩ = g₁(W_a[a⟨t−1⟩; x⟨t⟩] + b_a)).

    activate: g, in place; slope: g′ as a function of g.
    """

    def forward(x: Tensor, w: Tensor, extra: Tensor, h: Tensor, c: Tensor) -> Saved:
        for x_t, h_before, h_after in _steps(x, h[:-1], h[1:]):
            torch.baddbmm(x_t, h_before, w, out=h_after)
            activate(h_after)
        return ()

    def backward(
        grad_h: Tensor,
        grad_c: Tensor | None,
        w: Tensor,
        extra: Tensor,
        h: Tensor,
        c: Tensor,
        saved: Saved,
    ) -> Any:
        dx, w_t = torch.empty_like(grad_h), w.mT.contiguous()
        dh = torch.zeros_like(h[0])
        for grad, slope_t, dx_t in _steps_backward(grad_h, slope(h[1:]), dx):
            torch.mul(dh + grad, slope_t, out=dx_t)
            dh = torch.bmm(dx_t, w_t)
        return dx, _weight_gradient(h[:-1], dx), None, dh, None

    return forward, backward


def _lstm_forward(x: Tensor, w: Tensor, extra: Tensor, h: Tensor, c: Tensor) -> Saved:
    """i, f, o = σ(x + hW), g = tanh(x + hW); c ← f∗c + i∗g; h ← o∗tanh(c).

    (Hochreiter and Schmidhuber 1997, Gers et al. 2000.) With peepholes i and f see the old c, and
    o the new one (Gers et al. 2002).
    """
    gates, tanh_c, size = torch.empty_like(x), torch.empty_like(h[1:]), w.shape[1]
    peepholes = extra.unsqueeze(2).unbind(1)
    steps = _steps(x, gates, h[:-1], h[1:], c[:-1], c[1:], tanh_c)
    for x_t, gates_t, h_before, h_after, c_before, c_after, tanh_t in steps:
        torch.baddbmm(x_t, h_before, w, out=gates_t)
        i, f, g, o = gates_t.chunk(4, -1)
        if peepholes:
            i.addcmul_(peepholes[0], c_before)
            f.addcmul_(peepholes[1], c_before)
        gates_t[..., : 2 * size].sigmoid_()
        g.tanh_()
        torch.mul(f, c_before, out=c_after).addcmul_(i, g)
        if peepholes:
            o.addcmul_(peepholes[2], c_after)
        o.sigmoid_()
        torch.tanh(c_after, out=tanh_t)
        torch.mul(o, tanh_t, out=h_after)
    return gates, tanh_c


def _lstm_backward(
    grad_h: Tensor,
    grad_c: Tensor | None,
    w: Tensor,
    extra: Tensor,
    h: Tensor,
    c: Tensor,
    saved: Saved,
) -> Any:
    gates, tanh_c = saved
    i, f, g, o = gates.chunk(4, -1)
    dx, w_t = torch.empty_like(gates), w.mT.contiguous()
    peepholes = extra.unsqueeze(2).unbind(1)

    # What dh and dc of a step are multiplied by, computed for all steps at once.
    h_to_c = o * (1 - tanh_c * tanh_c)
    c_to_i = g * i * (1 - i)
    c_to_f = c[:-1] * f * (1 - f)
    c_to_g = i * (1 - g * g)
    h_to_o = tanh_c * o * (1 - o)

    dh, dc = torch.zeros_like(h[0]), torch.zeros_like(h[0])
    grads_c = [None] * len(grad_h) if grad_c is None else grad_c.unbind()
    steps = _steps(grad_h, dx, h_to_c, c_to_i, c_to_f, c_to_g, h_to_o, f)
    for step, grad_c_t in reversed(list(zip(steps, grads_c, strict=True))):
        grad_h_t, dx_t, to_c, to_i, to_f, to_g, to_o, f_t = step
        di, df, dg, do = dx_t.chunk(4, -1)
        dh = dh + grad_h_t
        torch.mul(dh, to_o, out=do)
        dc = torch.addcmul(dc, dh, to_c)
        if grad_c_t is not None:
            dc = dc + grad_c_t
        if peepholes:
            dc.addcmul_(do, peepholes[2])
        torch.mul(dc, to_i, out=di)
        torch.mul(dc, to_f, out=df)
        torch.mul(dc, to_g, out=dg)
        dc = dc * f_t
        if peepholes:
            dc.addcmul_(di, peepholes[0]).addcmul_(df, peepholes[1])
        dh = torch.bmm(dx_t, w_t)

    d_extra = _peephole_gradient(dx, c) if peepholes else None
    return dx, _weight_gradient(h[:-1], dx), d_extra, dh, dc


def _peephole_gradient(dx: Tensor, c: Tensor) -> Tensor:
    di, df, _, do = dx.chunk(4, -1)
    seen = ((di, c[:-1]), (df, c[:-1]), (do, c[1:]))
    return torch.stack([(d_gate * c_seen).sum((0, 2)) for d_gate, c_seen in seen], 1)


def _gru_forward(x: Tensor, w: Tensor, extra: Tensor, h: Tensor, c: Tensor) -> Saved:
    """r, z = σ(x + hW), n = tanh(x + r∗(hW + b)); h ← (1 − z)∗n + z∗h.

    PyTorch's form, which resets after the product.
    """
    gates, products, size = torch.empty_like(x), torch.empty_like(h[1:]), w.shape[1]
    bias = extra[:, :1]
    for x_t, gates_t, product, h_before, h_after in _steps(x, gates, products, h[:-1], h[1:]):
        hw = torch.bmm(h_before, w)
        torch.add(hw[..., 2 * size :], bias, out=product)
        torch.add(x_t[..., : 2 * size], hw[..., : 2 * size], out=gates_t[..., : 2 * size])
        gates_t[..., : 2 * size].sigmoid_()
        r, z, n = gates_t.chunk(3, -1)
        torch.addcmul(x_t[..., 2 * size :], r, product, out=n)
        n.tanh_()
        torch.lerp(n, h_before, z, out=h_after)
    return gates, products


def _gru_backward(
    grad_h: Tensor,
    grad_c: Tensor | None,
    w: Tensor,
    extra: Tensor,
    h: Tensor,
    c: Tensor,
    saved: Saved,
) -> Any:
    gates, products = saved
    r, z, n = gates.chunk(3, -1)
    size = w.shape[1]
    dx, d_products = torch.empty_like(gates), torch.empty_like(gates)
    w_t = w.mT.contiguous()

    h_to_n = (1 - z) * (1 - n * n)
    h_to_z = (h[:-1] - n) * z * (1 - z)
    n_to_r = products * r * (1 - r)

    dh = torch.zeros_like(h[0])
    steps = _steps_backward(grad_h, dx, d_products, h_to_n, h_to_z, n_to_r, r, z)
    for grad, dx_t, d_product, to_n, to_z, to_r, r_t, z_t in steps:
        dr, dz, dn = dx_t.chunk(3, -1)
        dh = dh + grad
        torch.mul(dh, to_n, out=dn)
        torch.mul(dh, to_z, out=dz)
        torch.mul(dn, to_r, out=dr)
        d_product[..., : 2 * size] = dx_t[..., : 2 * size]
        torch.mul(dn, r_t, out=d_product[..., 2 * size :])
        dh = torch.baddbmm(dh * z_t, d_product, w_t)
    d_bias = d_products[..., 2 * size :].sum((0, 2)).unsqueeze(1)
    return dx, _weight_gradient(h[:-1], d_products), d_bias, dh, None


def _reset_before_forward(x: Tensor, w: Tensor, extra: Tensor, h: Tensor, c: Tensor) -> Saved:
    """r, u = σ(x + hW), n = tanh(x + (r∗h)W); h ← (1 − u)∗h + u∗n.

    The notes' form, which resets before the product (Cho et al. 2014).
    """
    gates, resets, size = torch.empty_like(x), torch.empty_like(h[1:]), w.shape[1]
    w_gates, w_new = w[..., : 2 * size].contiguous(), w[..., 2 * size :].contiguous()
    for x_t, gates_t, reset_h, h_before, h_after in _steps(x, gates, resets, h[:-1], h[1:]):
        both = torch.baddbmm(x_t[..., : 2 * size], h_before, w_gates)
        torch.sigmoid(both, out=gates_t[..., : 2 * size])
        r, u, n = gates_t.chunk(3, -1)
        torch.mul(r, h_before, out=reset_h)
        torch.tanh(torch.baddbmm(x_t[..., 2 * size :], reset_h, w_new), out=n)
        torch.lerp(h_before, n, u, out=h_after)
    return gates, resets


def _reset_before_backward(
    grad_h: Tensor,
    grad_c: Tensor | None,
    w: Tensor,
    extra: Tensor,
    h: Tensor,
    c: Tensor,
    saved: Saved,
) -> Any:
    gates, resets = saved
    r, u, n = gates.chunk(3, -1)
    size = w.shape[1]
    wt_gates = w[..., : 2 * size].mT.contiguous()
    wt_new = w[..., 2 * size :].mT.contiguous()
    dx = torch.empty_like(gates)

    h_to_n = u * (1 - n * n)
    h_to_u = (n - h[:-1]) * u * (1 - u)
    reset_to_r = h[:-1] * r * (1 - r)

    dh = torch.zeros_like(h[0])
    steps = _steps_backward(grad_h, dx, h_to_n, h_to_u, reset_to_r, r, 1 - u)
    for grad, dx_t, to_n, to_u, to_r, r_t, stay in steps:
        dr, du, dn = dx_t.chunk(3, -1)
        dh = dh + grad
        torch.mul(dh, to_n, out=dn)
        torch.mul(dh, to_u, out=du)
        d_reset = torch.bmm(dn, wt_new)
        torch.mul(d_reset, to_r, out=dr)
        direct = (dh * stay).addcmul_(d_reset, r_t)
        dh = torch.baddbmm(direct, dx_t[..., : 2 * size], wt_gates)
    d_gates = _weight_gradient(h[:-1], dx[..., : 2 * size])
    d_new = _weight_gradient(resets, dx[..., 2 * size :])
    return dx, torch.cat([d_gates, d_new], 2), None, dh, None


@dataclass(frozen=True)
class Cell:
    """A recurrent cell.

    gates: G; extras: E; memory: whether there is a c beside h; fused: PyTorch's own kernel, where
    it has one.
    """

    gates: int
    forward: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Saved]
    backward: Callable[..., Any]
    extras: int = 0
    memory: bool = False
    fused: str | None = None


CELLS: dict[str, Cell] = {
    "rnn": Cell(1, *_rnn(torch.tanh_, lambda h: 1 - h * h), fused="rnn_tanh"),
    "rnn-relu": Cell(1, *_rnn(torch.relu_, lambda h: (h > 0).to(h.dtype)), fused="rnn_relu"),
    "gru": Cell(3, _gru_forward, _gru_backward, extras=1, fused="gru"),
    "gru-reset-before": Cell(3, _reset_before_forward, _reset_before_backward),
    "lstm": Cell(4, _lstm_forward, _lstm_backward, memory=True, fused="lstm"),
    "lstm-peephole": Cell(4, _lstm_forward, _lstm_backward, extras=3, memory=True),
}


class _Scan(torch.autograd.Function):
    """A cell over all steps of one network, or of M where `vmap` asks for them.

    c is empty for cells without a memory. One network's tensors lack the M axis.
    """

    @staticmethod
    def forward(name: str, x: Tensor, w: Tensor, extra: Tensor, h0: Tensor, c0: Tensor) -> Any:
        cell, is_single = CELLS[name], x.ndim == 3
        if is_single:
            x = x.unsqueeze(1)
            w, extra, h0, c0 = (tensor.unsqueeze(0) for tensor in (w, extra, h0, c0))
        h = x.new_empty(len(x) + 1, *h0.shape)
        h[0] = h0
        c = torch.empty_like(h) if cell.memory else x.new_empty(0)
        if cell.memory:
            c[0] = c0
        saved = cell.forward(x.contiguous(), w.contiguous(), extra, h, c)
        outputs = [h[1:], c[1:] if cell.memory else c]
        if is_single:
            outputs = [out.squeeze(1) if out.numel() else out for out in outputs]
        return *outputs, h, c, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.name, ctx.is_single = inputs[0], inputs[1].ndim == 3
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[2], inputs[3], *output[2:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        w, extra, h, c, *saved = ctx.saved_tensors
        grad_h, grad_c = (None if g is None or not g.numel() else g for g in grads[:2])
        if ctx.is_single:
            w, extra = w.unsqueeze(0), extra.unsqueeze(0)
            grad_h = None if grad_h is None else grad_h.unsqueeze(1)
            grad_c = None if grad_c is None else grad_c.unsqueeze(1)
        if grad_h is None:
            grad_h = torch.zeros_like(h[1:])
        cell = CELLS[ctx.name]
        by_inputs = cell.backward(grad_h, grad_c, w.contiguous(), extra, h, c, tuple(saved))
        if ctx.is_single:
            axes = (1, 0, 0, 0, 0)  # where M stands in x, w, extra, h0, c0
            by_inputs = [
                d if d is None else d.squeeze(axis) for d, axis in zip(by_inputs, axes, strict=True)
            ]
        dx, dw, d_extra, dh, dc = by_inputs
        return None, dx, dw, d_extra, dh, dc if cell.memory else None

    @staticmethod
    def vmap(info: Any, in_dims: Any, name: str, *args: Tensor) -> Any:
        batched = []
        for tensor, dim, axis in zip(args, in_dims[1:], (1, 0, 0, 0, 0), strict=True):
            if dim is None:
                shape = (*tensor.shape[:axis], info.batch_size, *tensor.shape[axis:])
                batched.append(tensor.unsqueeze(axis).expand(shape))
            else:
                batched.append(tensor.movedim(dim, axis))
        outputs = _Scan.apply(name, *batched)  # type: ignore[no-untyped-call]
        return outputs, tuple(1 if out.ndim > 1 else None for out in outputs)


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
