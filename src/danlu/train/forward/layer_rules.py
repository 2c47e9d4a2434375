"""Layers as explicit forward and backward passes for M networks at once; the formulas are those autograd would use.

Examples are columns: past the Flatten an array is [M, n, B], so that the innermost loop of every operation, down to
the softmax, runs over the batch and a layer of eight units wastes nothing. Networks are the leading axis; until the
first layer with weights there may be fewer, S ≤ M, where networks share their batches: that layer is then one product
for all that share. Pictures are [M, C, H, W, B] where all convolutions are small and one product over unfolded patches
beats the library's, else [B, C, H, W], one network at a time.

Legend: M networks, S batches in a step; g gradient of the loss by a layer's output; B examples, C channels in, q out,
k kernel, o output side. An entry of the tables binds a layer and gives (forward, backward): forward(x) → (output,
saved); backward(g, saved, wants_input) → the gradient by the input (if wanted), writing the parameters' into theirs
(it may overwrite g). `size(0)` where steps are counted in microseconds: `len` of a tensor is a function in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.layers import Dropout, ExplicitLinear

aten = torch.ops.aten
threshold_into = aten.threshold_backward.grad_input
Forward = Callable[[Tensor], tuple[Tensor, Any]]
Backward = Callable[[Tensor, Any, bool], Tensor]
Passes = tuple[Forward, Backward]


@dataclass
class MemberLayout:
    """Who sits in the chain: M networks, which batch each sees, where its dropout masks come from."""

    members: int = 1
    segments: list[tuple[int, int]] = field(
        default_factory=lambda: [(0, 1)]
    )  # networks a…z of each batch in turn
    generators: list[torch.Generator] = field(default_factory=list)  # a stream of masks each
    stream_of: Tensor | None = None  # [M] into `generators`; None: one for all

    def spread(self, x: Tensor) -> Tensor:
        """[S, …] as [M, …]."""
        if x.size(0) == self.members:
            return x
        return torch.cat(
            [s.expand(z - a, *s.shape) for s, (a, z) in zip(x, self.segments, strict=True)]
        )

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Draws for dropout from each network's stream, [M or 1, *shape]."""
        u = torch.stack([torch.rand(shape, generator=g, device=g.device) for g in self.generators])
        return u if self.stream_of is None else u[self.stream_of]


@dataclass(frozen=True)
class Layer:
    """A layer of M networks: its module, and its tensors [M, …] by name."""

    module: Any
    crowd: MemberLayout
    values: Mapping[str, Tensor]
    grads: Mapping[str, Tensor]
    p: Any = 0.0  # of Dropout: a number, or [M]
    spare: bool = False  # whether its input may be overwritten: the layer before made it and has no use for it


def _dense(layer: Layer) -> Passes:
    crowd, w, b = layer.crowd, layer.values["weight"], layer.values["bias"].unsqueeze(2)
    dw, db, wt = layer.grads["weight"], layer.grads["bias"], w.mT
    m, q, n = w.shape

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if x.size(0) == m:
            return torch.baddbmm(b, w, x), x
        out = x.new_empty(m, q, x.shape[2])
        for s, (a, z) in zip(x, crowd.segments, strict=True):
            torch.addmm(
                b[a:z].view(-1, 1), w[a:z].view(-1, n), s, out=out[a:z].view(-1, x.shape[2])
            )
        return out, x

    def backward(g: Tensor, x: Tensor, wants_input: bool) -> Tensor:
        if x.size(0) == m:
            torch.bmm(g, x.mT, out=dw)
        else:
            g = g.contiguous()
            for s, (a, z) in zip(x, crowd.segments, strict=True):
                torch.mm(g[a:z].view(-1, x.shape[2]), s.t(), out=dw[a:z].view(-1, n))
        torch.sum(g, 2, out=db)
        return torch.bmm(wt, g) if wants_input else g

    return forward, backward


def _conv(layer: Layer) -> Passes:
    """The library's, of one network, on [B, C, H, W]."""
    w, b, dw, db = (
        layer.values["weight"][0],
        layer.values["bias"][0],
        layer.grads["weight"][0],
        layer.grads["bias"][0],
    )
    stride, padding, q = layer.module.stride, layer.module.padding, [len(b)]

    def backward(g: Tensor, x: Tensor, wants_input: bool) -> Tensor:
        given, by_w, by_b = aten.convolution_backward(
            g, x, w, q, stride, padding, (1, 1), False, (0, 0), 1, [wants_input, True, True]
        )
        dw.copy_(by_w)
        db.copy_(by_b)
        return given if wants_input else g

    return lambda x: (F.conv2d(x, w, b, stride, padding), x), backward


def _unfolded(layer: Layer) -> Passes:
    """One product W [q, C·k·k] × patches [C·k·k, o·o·B] each, on [M, C, H, W, B]."""
    crowd = layer.crowd
    m, q, c, kh, kw = layer.values["weight"].shape
    (sh, sw), (ph, pw) = layer.module.stride, layer.module.padding
    w, b = layer.values["weight"].view(m, q, -1), layer.values["bias"].view(m, q, 1)
    dw, db = layer.grads["weight"].view(m, q, -1), layer.grads["bias"]
    by_input = w.view(m, q, c, kh, kw).permute(
        0, 4, 3, 2, 1
    )  # [M, kw, kh, C, q], a view: follows the weights
    alone = [(i, i + 1) for i in range(m)]

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        x = F.pad(x, (0, 0, pw, pw, ph, ph)) if ph or pw else x.contiguous()
        s, _, height, width, n = x.shape
        oh, ow = (height - kh) // sh + 1, (width - kw) // sw + 1
        of_s, of_c, of_h, of_w, _ = x.stride()
        windows = x.as_strided(
            (s, c, kh, kw, oh, ow, n), (of_s, of_c, of_h, of_w, sh * of_h, sw * of_w, 1)
        )
        patches = windows.reshape(s, c * kh * kw, oh, ow * n)
        out = x.new_empty(m, q, oh * ow * n)
        for each, (a, z) in zip(patches, alone if s == m else crowd.segments, strict=True):
            torch.mm(
                w[a:z].view(-1, c * kh * kw), each.flatten(1), out=out[a:z].view(-1, oh * ow * n)
            )
        return out.add_(b).view(m, q, oh, ow, n), (patches, height, width)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        patches, height, width = saved
        _, _, oh, ow, n = g.shape
        g = g.contiguous()
        for each, (a, z) in zip(
            patches, alone if len(patches) == m else crowd.segments, strict=True
        ):
            # A product per output row stays in the cache; one product over all rows took twice as long.
            rows = g[a:z].view(-1, oh, ow * n).transpose(0, 1)
            torch.sum(torch.bmm(rows, each.permute(1, 2, 0)), 0, out=dw[a:z].view(-1, c * kh * kw))
        torch.sum(g, (2, 3, 4), out=db)
        if not wants_input:
            return g
        given = g.new_zeros(m, c, height, width, n)
        for i in range(m):
            spread = (by_input[i].reshape(-1, q) @ g[i].view(q, -1)).view(kw, kh * c, oh, ow, n)
            wide = g.new_zeros(kh * c, oh, width, n)
            for j in range(kw):
                wide[:, :, j : j + sw * ow : sw] += spread[j]
            for j, row in enumerate(wide.view(kh, c, oh, width, n)):
                given[i, :, j : j + sh * oh : sh] += row
        return given[:, :, ph : height - ph, pw : width - pw]

    return forward, backward


def _halves(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    before = (slice(None),) * dim
    return x[(*before, slice(0, None, 2))], x[(*before, slice(1, None, 2))]


def _to_larger(g: Tensor, x: Tensor, dim: int) -> Tensor:
    """The gradient goes to the larger neighbour, of equals to the first."""
    out = torch.empty_like(x)
    (first, second), (to_first, to_second) = _halves(x, dim), _halves(out, dim)
    torch.sub(second, first, out=to_second)
    threshold_into(g, to_second, 0, grad_input=to_second)
    torch.sub(g, to_second, out=to_first)
    return out


def _pool(layer: Layer) -> Passes:
    """2×2: the maximum of neighbours in a row, then of those below each other; several times the library's speed on a CPU.

    In both layouts axis 2 counts rows and axis 3 columns. Of equals the first in reading order gets the gradient, as in
    the library.
    """

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        halved = torch.maximum(*_halves(x, 3))
        return torch.maximum(*_halves(halved, 2)), (x, halved)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        x, halved = saved
        return _to_larger(_to_larger(g, halved, 2), x, 3)

    return forward, backward


def _norm(layer: Layer) -> Passes:
    """On [B, C, H, W], where C are the channels of all networks in a row."""
    module, v = layer.module, layer.values
    w, b, mean, var = (
        v["weight"].view(-1),
        v["bias"].view(-1),
        v["running_mean"].view(-1),
        v["running_var"].view(-1),
    )
    dw, db = layer.grads["weight"].view(-1), layer.grads["bias"].view(-1)
    momentum, eps, count = module.momentum, module.eps, v["num_batches_tracked"]

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if module.training:
            count.add_(1)
        out, centre, scale = aten.native_batch_norm(
            x, w, b, mean, var, module.training, momentum, eps
        )
        return out, (x, centre, scale)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        x, centre, scale = saved
        mask = [wants_input, True, True]
        given, by_w, by_b = aten.native_batch_norm_backward(
            g.contiguous(), x, w, mean, var, centre, scale, module.training, eps, mask
        )
        dw.copy_(by_w)
        db.copy_(by_b)
        return given if wants_input else g

    return forward, backward


def _norm_columns(layer: Layer) -> Passes:
    """On [M, C, …, B], which to the kernel is one example of M·C channels and many pixels."""
    there, back = _norm(layer)
    crowd = layer.crowd

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        x = crowd.spread(x)
        out, saved = there(x.reshape(1, x.shape[0] * x.shape[1], -1))
        return out.view(x.shape), saved

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        return back(g.reshape(1, g.shape[0] * g.shape[1], -1), saved, wants_input).view(g.shape)

    return forward, backward


def keep_scaled(u: Tensor, p: Any, like: Tensor) -> Tensor:
    """0 where u < p, else 1/(1−p), in the kind of `like`; p: a number, or float64 [M].

    As the layer alone does it: compared in u's precision, scaled in that of the values.
    """
    off, scale = p, None if isinstance(p, Tensor) else 1 / (1 - p)
    if isinstance(p, Tensor):
        off = p.view(-1, *(1,) * (u.ndim - 1))
        scale = (1 / (1 - off)).to(like.dtype)
        off = off.to(u.dtype)
    mask: Tensor = (u.to(like.device) >= off).to(like.dtype) * scale
    return mask


def _dropout(columns: bool) -> Callable[[Layer], Passes]:
    """On [M, …, B], or on [B, …] of one network; a mask is drawn as the layer itself would, example by example."""

    def bind(layer: Layer) -> Passes:
        crowd, p = layer.crowd, layer.p
        some = isinstance(p, Tensor) or p > 0

        def forward(x: Tensor) -> tuple[Tensor, Any]:
            if not layer.module.training or not some:
                return x, None
            if not columns:
                mask = keep_scaled(crowd.uniform(tuple(x.shape))[0], p, x)
                return x * mask, mask
            x = crowd.spread(x)
            mask = keep_scaled(crowd.uniform((x.shape[-1], *x.shape[1:-1])).movedim(1, -1), p, x)
            return x * mask, mask

        return forward, lambda g, mask, wants_input: g if mask is None else g * mask

    return bind


def _by_output(
    forward: Callable[[Any, Tensor], Tensor], backward: Callable[[Any, Tensor, Tensor], Tensor]
) -> Callable[[Layer], Passes]:
    """An activation whose gradient is a formula in its output."""

    def bind(layer: Layer) -> Passes:
        module = layer.module

        def there(x: Tensor) -> tuple[Tensor, Any]:
            out = forward(module, x)
            return out, out

        return there, lambda g, out, wants_input: backward(module, g, out)

    return bind


def _by_input(
    forward: Callable[[Any, Tensor], Tensor], backward: Callable[[Any, Tensor, Tensor], Tensor]
) -> Callable[[Layer], Passes]:
    """An activation whose gradient is a formula in its input."""
    return lambda layer: (
        lambda x: (forward(layer.module, x), x),
        lambda g, x, wants_input: backward(layer.module, g, x),
    )


def _relu(layer: Layer) -> Passes:
    """In place where it may be: a population's arrays are larger than the caches."""
    activate = torch.relu_ if layer.spare else torch.relu

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        out = activate(x)
        return out, out

    def backward(g: Tensor, out: Tensor, wants_input: bool) -> Tensor:
        threshold_into(g, out, 0, grad_input=g)
        return g

    return forward, backward


Rules = dict[type[nn.Module], Callable[[Layer], Passes]]


LAYERS: Rules = {
    nn.Linear: _dense,
    ExplicitLinear: _dense,
    nn.Conv2d: _unfolded,
    nn.MaxPool2d: _pool,
    nn.BatchNorm1d: _norm_columns,
    nn.BatchNorm2d: _norm_columns,
    Dropout: _dropout(columns=True),
    nn.Flatten: lambda m: (
        lambda x: (x.flatten(1, -2), x.shape),
        lambda g, shape, wants: g.view(shape),
    ),
    nn.Identity: lambda m: (lambda x: (x, None), lambda g, saved, wants: g),
    nn.ReLU: _relu,
    nn.ELU: _by_output(
        lambda m, x: F.elu(x, m.alpha),
        lambda m, g, out: aten.elu_backward(g, m.alpha, 1, 1, True, out),
    ),
    nn.Sigmoid: _by_output(
        lambda m, x: torch.sigmoid(x), lambda m, g, out: aten.sigmoid_backward(g, out)
    ),
    nn.Tanh: _by_output(lambda m, x: torch.tanh(x), lambda m, g, out: aten.tanh_backward(g, out)),
    nn.GELU: _by_input(lambda m, x: F.gelu(x), lambda m, g, x: aten.gelu_backward(g, x)),
    nn.LeakyReLU: _by_input(
        lambda m, x: F.leaky_relu(x, m.negative_slope),
        lambda m, g, x: aten.leaky_relu_backward(g, x, m.negative_slope, False),
    ),
}
FRESH = (
    nn.Linear,
    ExplicitLinear,
    nn.Conv2d,
    nn.MaxPool2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
)  # give arrays that they do not keep
PICTURES: Rules = {  # up to the Flatten, in the library's layout [B, C, H, W]
    **LAYERS,
    nn.Conv2d: _conv,
    nn.BatchNorm2d: _norm,
    Dropout: _dropout(columns=False),
    nn.Flatten: lambda m: (
        lambda x: (x.flatten(1).t().unsqueeze(0), x.shape),
        lambda g, shape, wants: g[0].t().reshape(shape).contiguous(),
    ),
}
