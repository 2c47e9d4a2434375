"""Recurrent cells, step by step through time, with their gradients written out.

A cell is a row of `CELLS`: a pass forward over all steps and one backward (back-propagation through
time). Both take M networks at once, so a population is vectorised; each step is a few operations
without a graph. `danlu.nn.scan` runs a cell on the inputs of its gates.

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
    states = h.transpose(0, 1).flatten(1, 2)  # [M, T·B, H]
    gradients = d.transpose(0, 1).flatten(1, 2)  # [M, T·B, G·H]
    return torch.bmm(states.mT, gradients)


def _rnn(
    activate: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], Tensor],
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
        dx = torch.empty_like(grad_h)  # [T, M, B, H]
        dh = torch.zeros_like(h[0])
        w_t = w.mT.contiguous()
        # For all steps at once: outside the loop it is one operation.
        slopes = slope(h[1:])  # [T, M, B, H]
        for grad, slope_t, dx_t in _steps_backward(grad_h, slopes, dx):
            dh = dh + grad
            torch.mul(dh, slope_t, out=dx_t)
            dh = torch.bmm(dx_t, w_t)
        dw = _weight_gradient(h[:-1], dx)
        return dx, dw, None, dh, None

    return forward, backward


def _lstm_forward(x: Tensor, w: Tensor, extra: Tensor, h: Tensor, c: Tensor) -> Saved:
    """i, f, o = σ(x + hW), g = tanh(x + hW); c ← f∗c + i∗g; h ← o∗tanh(c).

    (Hochreiter and Schmidhuber 1997, Gers et al. 2000.) With peepholes i and f see the old c, and
    o the new one (Gers et al. 2002).
    """
    size = w.shape[1]
    gates = torch.empty_like(x)
    tanh_c = torch.empty_like(h[1:])  # [T, M, B, H]
    peepholes = extra.unsqueeze(2).unbind(1)
    steps = _steps(x, gates, h[:-1], h[1:], c[:-1], c[1:], tanh_c)
    for x_t, gates_t, h_before, h_after, c_before, c_after, tanh_t in steps:
        # All four gates are one product.
        torch.baddbmm(x_t, h_before, w, out=gates_t)
        i, f, g, o = gates_t.chunk(4, -1)
        if peepholes:
            i.addcmul_(peepholes[0], c_before)
            f.addcmul_(peepholes[1], c_before)
        # i and f lie side by side; o waits for the new c.
        gates_t[..., : 2 * size].sigmoid_()
        g.tanh_()
        torch.mul(f, c_before, out=c_after)
        c_after.addcmul_(i, g)
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
    dx = torch.empty_like(gates)
    w_t = w.mT.contiguous()
    peepholes = extra.unsqueeze(2).unbind(1)

    # What dh and dc of a step are multiplied by, computed for all steps at once.
    h_to_c = o * (1 - tanh_c * tanh_c)  # ∂h/∂c
    c_to_i = g * i * (1 - i)  # ∂c/∂(before σ), likewise below
    c_to_f = c[:-1] * f * (1 - f)
    c_to_g = i * (1 - g * g)
    h_to_o = tanh_c * o * (1 - o)

    dh = torch.zeros_like(h[0])
    dc = torch.zeros_like(h[0])
    grads_c = [None] * len(grad_h) if grad_c is None else grad_c.unbind()
    steps = _steps(grad_h, dx, h_to_c, c_to_i, c_to_f, c_to_g, h_to_o, f)
    for step, grad_c_t in reversed(list(zip(steps, grads_c, strict=True))):
        grad_h_t, dx_t, to_c, to_i, to_f, to_g, to_o, f_t = step
        di, df, dg, do = dx_t.chunk(4, -1)
        dh = dh + grad_h_t
        torch.mul(dh, to_o, out=do)
        # The memory gets its gradient by h, and by the step after.
        dc = torch.addcmul(dc, dh, to_c)
        if grad_c_t is not None:
            dc = dc + grad_c_t
        if peepholes:
            dc.addcmul_(do, peepholes[2])
        torch.mul(dc, to_i, out=di)
        torch.mul(dc, to_f, out=df)
        torch.mul(dc, to_g, out=dg)
        # From here on dh and dc are those of the step before.
        dc = dc * f_t
        if peepholes:
            dc.addcmul_(di, peepholes[0])
            dc.addcmul_(df, peepholes[1])
        dh = torch.bmm(dx_t, w_t)

    dw = _weight_gradient(h[:-1], dx)
    d_extra = _peephole_gradient(dx, c) if peepholes else None
    return dx, dw, d_extra, dh, dc


def _peephole_gradient(dx: Tensor, c: Tensor) -> Tensor:
    """Return the peepholes' gradient [M, 3, H]: each gate's, times the c that it saw."""
    di, df, _, do = dx.chunk(4, -1)
    c_before, c_after = c[:-1], c[1:]
    gradients = [
        (di * c_before).sum((0, 2)),
        (df * c_before).sum((0, 2)),
        (do * c_after).sum((0, 2)),
    ]
    return torch.stack(gradients, 1)


def _gru_forward(x: Tensor, w: Tensor, extra: Tensor, h: Tensor, c: Tensor) -> Saved:
    """r, z = σ(x + hW), n = tanh(x + r∗(hW + b)); h ← (1 − z)∗n + z∗h.

    PyTorch's form, which resets after the product.
    """
    size = w.shape[1]
    gates = torch.empty_like(x)
    products = torch.empty_like(h[1:])  # hW + b of the new state
    bias = extra[:, :1]  # [M, 1, H]
    for x_t, gates_t, product, h_before, h_after in _steps(x, gates, products, h[:-1], h[1:]):
        x_gates, x_new = _gates_and_new(x_t, size)
        hw_gates, hw_new = _gates_and_new(torch.bmm(h_before, w), size)
        torch.add(hw_new, bias, out=product)
        r_and_z, n = _gates_and_new(gates_t, size)
        torch.add(x_gates, hw_gates, out=r_and_z)
        r_and_z.sigmoid_()
        r, z = r_and_z.chunk(2, -1)
        # The product is scaled after it was made: that is PyTorch's form.
        torch.addcmul(x_new, r, product, out=n)
        n.tanh_()
        torch.lerp(n, h_before, z, out=h_after)
    return gates, products


def _gates_and_new(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return what belongs to a GRU's two gates [..., 2H], and to its new state [..., H]."""
    return x[..., : 2 * size], x[..., 2 * size :]


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
    w_t = w.mT.contiguous()
    dx = torch.empty_like(gates)
    # By hW + b: as by x, but for the new state, whose product the reset gate scales.
    d_products = torch.empty_like(gates)

    h_before = h[:-1]
    h_to_n = (1 - z) * (1 - n * n)  # ∂h/∂(before tanh)
    h_to_z = (h_before - n) * z * (1 - z)
    n_to_r = products * r * (1 - r)  # ∂n/∂(before σ) of the reset gate

    dh = torch.zeros_like(h[0])
    steps = _steps_backward(grad_h, dx, d_products, h_to_n, h_to_z, n_to_r, r, z)
    for grad, dx_t, d_product, to_n, to_z, to_r, r_t, z_t in steps:
        d_gates, dn = _gates_and_new(dx_t, size)
        dr, dz = d_gates.chunk(2, -1)
        dh = dh + grad
        torch.mul(dh, to_n, out=dn)
        torch.mul(dh, to_z, out=dz)
        torch.mul(dn, to_r, out=dr)
        product_of_gates, product_of_new = _gates_and_new(d_product, size)
        product_of_gates.copy_(d_gates)
        torch.mul(dn, r_t, out=product_of_new)
        dh = torch.baddbmm(dh * z_t, d_product, w_t)

    dw = _weight_gradient(h_before, d_products)
    _, d_new = _gates_and_new(d_products, size)
    d_bias = d_new.sum((0, 2)).unsqueeze(1)  # [M, 1, H]
    return dx, dw, d_bias, dh, None


def _reset_before_forward(x: Tensor, w: Tensor, extra: Tensor, h: Tensor, c: Tensor) -> Saved:
    """r, u = σ(x + hW), n = tanh(x + (r∗h)W); h ← (1 − u)∗h + u∗n.

    The notes' form, which resets before the product (Cho et al. 2014).
    """
    size = w.shape[1]
    w_gates, w_new = _gates_and_new(w, size)
    w_gates, w_new = w_gates.contiguous(), w_new.contiguous()
    gates = torch.empty_like(x)
    resets = torch.empty_like(h[1:])  # r∗h, which the weights' gradient needs
    for x_t, gates_t, reset_h, h_before, h_after in _steps(x, gates, resets, h[:-1], h[1:]):
        x_gates, x_new = _gates_and_new(x_t, size)
        r_and_u, n = _gates_and_new(gates_t, size)
        both = torch.baddbmm(x_gates, h_before, w_gates)
        torch.sigmoid(both, out=r_and_u)
        r, u = r_and_u.chunk(2, -1)
        torch.mul(r, h_before, out=reset_h)
        # The state is scaled before the product: that is the notes' form.
        new = torch.baddbmm(x_new, reset_h, w_new)
        torch.tanh(new, out=n)
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
    w_gates, w_new = _gates_and_new(w, size)
    wt_gates = w_gates.mT.contiguous()
    wt_new = w_new.mT.contiguous()  # [M, H, H]
    dx = torch.empty_like(gates)

    h_before = h[:-1]
    h_to_n = u * (1 - n * n)
    h_to_u = (n - h_before) * u * (1 - u)
    reset_to_r = h_before * r * (1 - r)  # ∂(r∗h)/∂(before σ)

    dh = torch.zeros_like(h[0])
    steps = _steps_backward(grad_h, dx, h_to_n, h_to_u, reset_to_r, r, 1 - u)
    for grad, dx_t, to_n, to_u, to_r, r_t, stay in steps:
        d_gates, dn = _gates_and_new(dx_t, size)
        dr, du = d_gates.chunk(2, -1)
        dh = dh + grad
        torch.mul(dh, to_n, out=dn)
        torch.mul(dh, to_u, out=du)
        d_reset = torch.bmm(dn, wt_new)
        torch.mul(d_reset, to_r, out=dr)
        direct = (dh * stay).addcmul_(d_reset, r_t)
        dh = torch.baddbmm(direct, d_gates, wt_gates)

    by_gates, by_new = _gates_and_new(dx, size)
    dw_gates = _weight_gradient(h_before, by_gates)
    dw_new = _weight_gradient(resets, by_new)
    return dx, torch.cat([dw_gates, dw_new], 2), None, dh, None


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
    "rnn": Cell(
        1,
        *_rnn(torch.tanh_, lambda h: 1 - h * h),
        fused="rnn_tanh",
    ),
    "rnn-relu": Cell(
        1,
        *_rnn(torch.relu_, lambda h: (h > 0).to(h.dtype)),
        fused="rnn_relu",
    ),
    "gru": Cell(3, _gru_forward, _gru_backward, extras=1, fused="gru"),
    "gru-reset-before": Cell(3, _reset_before_forward, _reset_before_backward),
    "lstm": Cell(4, _lstm_forward, _lstm_backward, memory=True, fused="lstm"),
    "lstm-peephole": Cell(4, _lstm_forward, _lstm_backward, extras=3, memory=True),
}
