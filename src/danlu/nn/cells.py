"""Recurrent cells, step by step through time, with their gradients written out (back-propagation through time).

A cell is a row of `CELLS`: a pass forward over all steps and one backward. Both take M networks at once, so a
population is vectorised; each step is a few operations without a graph. `scan` runs a cell on the inputs of its gates.

Legend: T steps, M networks, B examples, H units, G gates. x [T, M, B, G·H] what the input brings to the gates (biases
included); w [M, H, G·H] the recurrent weights; e [M, E, H] what else a cell has (peepholes, a bias); h, c [T + 1, M, B, H]
states, the first before the first step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Saved = tuple[Tensor, ...]


def _steps(*tensors: Tensor) -> Any:
    """The steps of several tensors side by side: unbinding once is cheaper than indexing at every step."""
    return zip(*(t.unbind() for t in tensors), strict=True)


def _gates(x: Tensor, n: int) -> tuple[Tensor, ...]:
    return x.chunk(n, -1)


def _rnn(
    activate: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]
) -> tuple[Any, Any]:
    """h ← g(x + hW) (the notes' a⟨t⟩ = g₁(W_a[a⟨t−1⟩; x⟨t⟩] + b_a))."""

    def forward(x: Tensor, w: Tensor, e: Tensor, h: Tensor, c: Tensor) -> Saved:
        for xt, before, after in _steps(x, h[:-1], h[1:]):
            torch.baddbmm(xt, before, w, out=after)
            activate(after)
        return ()

    def backward(
        gh: Tensor, gc: Tensor | None, w: Tensor, e: Tensor, h: Tensor, c: Tensor, saved: Saved
    ) -> Any:
        dx, slopes, wt = torch.empty_like(gh), slope(h[1:]), w.mT.contiguous()
        dh = torch.zeros_like(h[0])
        for g, s, d in reversed(list(_steps(gh, slopes, dx))):
            torch.mul(dh + g, s, out=d)
            dh = torch.bmm(d, wt)
        return dx, _recurrent(h[:-1], dx), None, dh, None

    return forward, backward


def _recurrent(h: Tensor, d: Tensor) -> Tensor:
    """Σ over steps and examples of h⊗d: the gradient of the recurrent weights."""
    return torch.bmm(h.transpose(0, 1).flatten(1, 2).mT, d.transpose(0, 1).flatten(1, 2))


def _lstm_forward(x: Tensor, w: Tensor, e: Tensor, h: Tensor, c: Tensor) -> Saved:
    """i, f, o = σ(x + hW), g = tanh(x + hW); c ← f∗c + i∗g; h ← o∗tanh(c) (Hochreiter and Schmidhuber 1997, Gers et al. 2000).

    With peepholes i and f see the old c, and o the new one (Gers et al. 2002).
    """
    gates, t, size = torch.empty_like(x), torch.empty_like(h[1:]), w.shape[1]
    peeps = e.unsqueeze(2).unbind(1)
    for xt, a, h0, h1, c0, c1, t1 in _steps(x, gates, h[:-1], h[1:], c[:-1], c[1:], t):
        torch.baddbmm(xt, h0, w, out=a)
        i, f, g, o = _gates(a, 4)
        if peeps:
            i.addcmul_(peeps[0], c0)
            f.addcmul_(peeps[1], c0)
        a[..., : 2 * size].sigmoid_()
        g.tanh_()
        torch.mul(f, c0, out=c1).addcmul_(i, g)
        if peeps:
            o.addcmul_(peeps[2], c1)
        o.sigmoid_()
        torch.tanh(c1, out=t1)
        torch.mul(o, t1, out=h1)
    return gates, t


def _lstm_backward(
    gh: Tensor, gc: Tensor | None, w: Tensor, e: Tensor, h: Tensor, c: Tensor, saved: Saved
) -> Any:
    gates, t = saved
    i, f, g, o = _gates(gates, 4)
    dx, wt, peeps = torch.empty_like(gates), w.mT.contiguous(), e.unsqueeze(2).unbind(1)
    # What a step's ∂h and ∂c are multiplied by, of all steps at once.
    to_c, to_i, to_f, to_g, to_o = (
        o * (1 - t * t),
        g * i * (1 - i),
        c[:-1] * f * (1 - f),
        i * (1 - g * g),
        t * o * (1 - o),
    )
    dh, dc = torch.zeros_like(h[0]), torch.zeros_like(h[0])
    more = gc if gc is not None else [None] * len(gh)
    rows = list(
        zip(*(v.unbind() for v in (gh, dx, to_c, to_i, to_f, to_g, to_o, f)), more, strict=True)
    )
    for g_h, d, kc, ki, kf, kg, ko, keep, g_c in reversed(rows):
        di, df, dg, do = _gates(d, 4)
        dh = dh + g_h
        torch.mul(dh, ko, out=do)
        dc = torch.addcmul(dc, dh, kc)
        if g_c is not None:
            dc = dc + g_c
        if peeps:
            dc.addcmul_(do, peeps[2])
        torch.mul(dc, ki, out=di)
        torch.mul(dc, kf, out=df)
        torch.mul(dc, kg, out=dg)
        dc = dc * keep
        if peeps:
            dc.addcmul_(di, peeps[0]).addcmul_(df, peeps[1])
        dh = torch.bmm(d, wt)
    de = None
    if peeps:
        di, df, _, do = _gates(dx, 4)
        de = torch.stack(
            [(d * s).sum((0, 2)) for d, s in ((di, c[:-1]), (df, c[:-1]), (do, c[1:]))], 1
        )
    return dx, _recurrent(h[:-1], dx), de, dh, dc


def _gru_forward(x: Tensor, w: Tensor, e: Tensor, h: Tensor, c: Tensor) -> Saved:
    """r, z = σ(x + hW), n = tanh(x + r∗(hW + b)); h ← (1 − z)∗n + z∗h: the framework's form, reset after the product."""
    gates, inner, size = torch.empty_like(x), torch.empty_like(h[1:]), w.shape[1]
    bias = e[:, :1]
    for xt, a, p, h0, h1 in _steps(x, gates, inner, h[:-1], h[1:]):
        both = torch.bmm(h0, w)
        torch.add(both[..., 2 * size :], bias, out=p)
        torch.add(xt[..., : 2 * size], both[..., : 2 * size], out=a[..., : 2 * size])
        a[..., : 2 * size].sigmoid_()
        r, z, n = _gates(a, 3)
        torch.addcmul(xt[..., 2 * size :], r, p, out=n)
        n.tanh_()
        torch.lerp(n, h0, z, out=h1)
    return gates, inner


def _gru_backward(
    gh: Tensor, gc: Tensor | None, w: Tensor, e: Tensor, h: Tensor, c: Tensor, saved: Saved
) -> Any:
    gates, inner = saved
    r, z, n = _gates(gates, 3)
    size = w.shape[1]
    dx, through, wt = torch.empty_like(gates), torch.empty_like(gates), w.mT.contiguous()
    to_n, to_z, to_r = (1 - z) * (1 - n * n), (h[:-1] - n) * z * (1 - z), inner * r * (1 - r)
    dh = torch.zeros_like(h[0])
    for g_h, d, at, kn, kz, kr, r_t, z_t in reversed(
        list(_steps(gh, dx, through, to_n, to_z, to_r, r, z))
    ):
        dr, dz, dn = _gates(d, 3)
        dh = dh + g_h
        torch.mul(dh, kn, out=dn)
        torch.mul(dh, kz, out=dz)
        torch.mul(dn, kr, out=dr)
        at[..., : 2 * size] = d[..., : 2 * size]
        torch.mul(dn, r_t, out=at[..., 2 * size :])
        dh = torch.baddbmm(dh * z_t, at, wt)
    return (
        dx,
        _recurrent(h[:-1], through),
        through[..., 2 * size :].sum((0, 2)).unsqueeze(1),
        dh,
        None,
    )


def _reset_before_forward(x: Tensor, w: Tensor, e: Tensor, h: Tensor, c: Tensor) -> Saved:
    """r, u = σ(x + hW), n = tanh(x + (r∗h)W); h ← (1 − u)∗h + u∗n: the notes' form (Cho et al. 2014)."""
    gates, kept, size = torch.empty_like(x), torch.empty_like(h[1:]), w.shape[1]
    w_gates, w_new = w[..., : 2 * size].contiguous(), w[..., 2 * size :].contiguous()
    for xt, a, k, h0, h1 in _steps(x, gates, kept, h[:-1], h[1:]):
        both = torch.baddbmm(xt[..., : 2 * size], h0, w_gates)
        torch.sigmoid(both, out=a[..., : 2 * size])
        r, u, n = _gates(a, 3)
        torch.mul(r, h0, out=k)
        torch.tanh(torch.baddbmm(xt[..., 2 * size :], k, w_new), out=n)
        torch.lerp(h0, n, u, out=h1)
    return gates, kept


def _reset_before_backward(
    gh: Tensor, gc: Tensor | None, w: Tensor, e: Tensor, h: Tensor, c: Tensor, saved: Saved
) -> Any:
    gates, kept = saved
    r, u, n = _gates(gates, 3)
    size = w.shape[1]
    wt_gates, wt_new = (v.mT.contiguous() for v in (w[..., : 2 * size], w[..., 2 * size :]))
    dx = torch.empty_like(gates)
    to_n, to_u, to_r, stay = (
        u * (1 - n * n),
        (n - h[:-1]) * u * (1 - u),
        h[:-1] * r * (1 - r),
        1 - u,
    )
    dh = torch.zeros_like(h[0])
    for g_h, d, kn, ku, kr, r_t, s_t in reversed(list(_steps(gh, dx, to_n, to_u, to_r, r, stay))):
        dr, du, dn = _gates(d, 3)
        dh = dh + g_h
        torch.mul(dh, kn, out=dn)
        torch.mul(dh, ku, out=du)
        by_kept = torch.bmm(dn, wt_new)
        torch.mul(by_kept, kr, out=dr)
        dh = torch.baddbmm((dh * s_t).addcmul_(by_kept, r_t), d[..., : 2 * size], wt_gates)
    d_gates, d_new = dx[..., : 2 * size], dx[..., 2 * size :]
    return dx, torch.cat([_recurrent(h[:-1], d_gates), _recurrent(kept, d_new)], 2), None, dh, None


@dataclass(frozen=True)
class Cell:
    """gates: G; extras: E; memory: whether there is a c beside h; fused: the framework's own kernel, where it has one."""

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
    "gru-before": Cell(3, _reset_before_forward, _reset_before_backward),
    "lstm": Cell(4, _lstm_forward, _lstm_backward, memory=True, fused="lstm"),
    "lstm-peephole": Cell(4, _lstm_forward, _lstm_backward, extras=3, memory=True),
}


class _Scan(torch.autograd.Function):
    """A cell over all steps of one network, or of M where `vmap` asks; c is empty for cells without one."""

    @staticmethod
    def forward(name: str, x: Tensor, w: Tensor, e: Tensor, h0: Tensor, c0: Tensor) -> Any:
        cell, alone = CELLS[name], x.ndim == 3
        if alone:
            x, w, e, h0, c0 = (
                x.unsqueeze(1),
                w.unsqueeze(0),
                e.unsqueeze(0),
                h0.unsqueeze(0),
                c0.unsqueeze(0),
            )
        h = x.new_empty(len(x) + 1, *h0.shape)
        h[0] = h0
        c = torch.empty_like(h) if cell.memory else x.new_empty(0)
        if cell.memory:
            c[0] = c0
        saved = cell.forward(x.contiguous(), w.contiguous(), e, h, c)
        outs = h[1:], c[1:] if cell.memory else c
        return *(o.squeeze(1) if alone and o.numel() else o for o in outs), h, c, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.name, ctx.alone = inputs[0], inputs[1].ndim == 3
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[2], inputs[3], *output[2:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        w, e, h, c, *saved = ctx.saved_tensors
        gh, gc = (
            None if g is None or not g.numel() else g.unsqueeze(1) if ctx.alone else g
            for g in grads[:2]
        )
        cell = CELLS[ctx.name]
        if ctx.alone:
            w, e = w.unsqueeze(0), e.unsqueeze(0)
        gh = torch.zeros_like(h[1:]) if gh is None else gh
        found = cell.backward(gh, gc, w.contiguous(), e, h, c, tuple(saved))
        dx, dw, de, dh, dc = (
            d if d is None or not ctx.alone else d.squeeze(1 if i == 0 else 0)
            for i, d in enumerate(found)
        )
        return None, dx, dw, de, dh, dc if cell.memory else None

    @staticmethod
    def vmap(info: Any, in_dims: Any, name: str, *args: Tensor) -> Any:
        m, places = info.batch_size, (1, 0, 0, 0, 0)
        every = [
            a.movedim(d, at)
            if d is not None
            else a.unsqueeze(at).expand(*a.shape[:at], m, *a.shape[at:])
            for a, d, at in zip(args, in_dims[1:], places, strict=True)
        ]
        out = _Scan.apply(name, *every)  # type: ignore[no-untyped-call]
        return out, tuple(1 if o.ndim > 1 else None for o in out)


def scan(
    name: str, x: Tensor, w: Tensor, e: Tensor, h0: Tensor, c0: Tensor
) -> tuple[Tensor, Tensor]:
    """The states h and c [T, B, H] after every step of one network, c empty for cells without one.

    x [T, B, G·H], w [H, G·H], e [E, H], h0 [B, H], c0 [B, H] (or empty).
    """
    with torch.autocast(
        x.device.type, enabled=False
    ):  # what is written into prepared places must be of one type
        h, c, *_ = _Scan.apply(name, *(t.to(w.dtype) for t in (x, w, e, h0, c0)))  # type: ignore[no-untyped-call]
    return h, c
