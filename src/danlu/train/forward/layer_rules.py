"""Layers as explicit forward and backward passes for M networks at once.

The formulas are those that autograd would use. Examples are columns: past the Flatten an array is
[M, n, B], so that the innermost loop of every operation, down to the softmax, runs over the batch
and a layer of eight units wastes nothing. Networks are the leading axis; until the first layer with
weights there may be fewer, S ≤ M, where networks share their batches: that layer is then one
product for all that share. Pictures are [M, C, H, W, B] where all convolutions are small and one
product over unfolded patches beats the library's, else [B, C, H, W], one network at a time.

Legend: M networks, S batches in a step; g gradient of the loss by a layer's output; B examples,
C channels in, q out, k kernel, o output side. A rule of the tables binds a layer and returns its
`ForwardBackward`. Code that runs in every step uses `size(0)`: `len` of a tensor is a function in
Python, and steps are counted in microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.layers import Dropout, ExplicitLinear
from danlu.train.forward.bound_layer import BoundLayer, ForwardBackward, LayerRule
from danlu.train.forward.convolution import UnfoldedConvolution
from danlu.train.forward.interface import scaled_keep_mask
from danlu.train.forward.normalisation import (
    batch_norm,
    batch_norm_of_columns,
    layer_norm_of_columns,
)
from danlu.train.forward.pooling import max_pool, threshold_into

aten = torch.ops.aten

# α and λ of SELU (Klambauer et al. 2017, eq. 14), as PyTorch has them.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946

LayerRules = dict[type[nn.Module], LayerRule]
Activation = Callable[[Any, Tensor], Tensor]  # (module, x) → output
Slope = Callable[[Any, Tensor, Tensor], Tensor]  # (module, g, output or input) → gradient


def _dense(layer: BoundLayer) -> ForwardBackward:
    """W [q, n] × x [n, B] + b for each network."""
    layout = layer.layout
    w = layer.tensors["weight"]
    w_t = w.mT
    b = layer.tensors["bias"].unsqueeze(2)  # [M, q, 1]
    dw = layer.grads["weight"]
    db = layer.grads["bias"]
    m, q, n = w.shape

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if x.size(0) == m:
            # Every network has a batch of its own.
            return torch.baddbmm(b, w, x), x
        # Networks that share a batch: their weights are rows of one matrix.
        size = x.shape[2]
        out = x.new_empty(m, q, size)
        for batch, (a, z) in zip(x, layout.segments, strict=True):
            bias = b[a:z].view(-1, 1)
            weight = w[a:z].view(-1, n)  # [M·q, n]
            rows = out[a:z].view(-1, size)  # [M·q, B]
            torch.addmm(bias, weight, batch, out=rows)
        return out, x

    def backward(g: Tensor, x: Tensor, wants_input: bool) -> Tensor:
        if x.size(0) == m:
            torch.bmm(g, x.mT, out=dw)
        else:
            g = g.contiguous()
            size = x.shape[2]
            for batch, (a, z) in zip(x, layout.segments, strict=True):
                rows = g[a:z].view(-1, size)  # [M·q, B]
                dw_rows = dw[a:z].view(-1, n)  # [M·q, n]
                torch.mm(rows, batch.t(), out=dw_rows)
        # Written in place: the optimiser holds views of the gradients.
        torch.sum(g, 2, out=db)
        if not wants_input:
            return g
        return torch.bmm(w_t, g)  # [M, n, B]

    return ForwardBackward(forward, backward)


def _library_convolution(layer: BoundLayer) -> ForwardBackward:
    """The library's, of one network, on [B, C, H, W]."""
    w = layer.tensors["weight"][0]
    b = layer.tensors["bias"][0]
    dw = layer.grads["weight"][0]
    db = layer.grads["bias"][0]
    stride = layer.module.stride
    padding = layer.module.padding
    bias_sizes = [len(b)]

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        return F.conv2d(x, w, b, stride, padding), x  # [B, q, H, W]

    def backward(g: Tensor, x: Tensor, wants_input: bool) -> Tensor:
        by_input, by_w, by_b = aten.convolution_backward(
            g,
            x,
            w,
            bias_sizes=bias_sizes,
            stride=stride,
            padding=padding,
            dilation=(1, 1),
            transposed=False,
            output_padding=(0, 0),
            groups=1,
            output_mask=[wants_input, True, True],
        )
        dw.copy_(by_w)
        db.copy_(by_b)
        return by_input if wants_input else g

    return ForwardBackward(forward, backward)


def _small_convolution(layer: BoundLayer) -> ForwardBackward:
    """One product for all networks, on [M, C, H, W, B]."""
    passes = UnfoldedConvolution(layer.module, layer.layout, layer.tensors, layer.grads)
    return ForwardBackward(passes.forward, passes.backward)


def _dropout(columns: bool) -> LayerRule:
    """On [M, …, B], or on [B, …] of one network.

    A mask is drawn as the layer itself would, example by example.
    """

    def bind(layer: BoundLayer) -> ForwardBackward:
        layout = layer.layout
        module = layer.module
        p = layer.p
        drops_some = isinstance(p, Tensor) or p > 0

        def forward(x: Tensor) -> tuple[Tensor, Any]:
            if not module.training or not drops_some:
                return x, None
            if columns:
                x = layout.per_member(x)
                # Drawn with the example first, as the layer alone draws: equal streams, equal
                # masks.
                *of_example, size = x.shape[1:]
                u = layout.uniform((size, *of_example))
                u = u.movedim(1, -1)
            else:
                u = layout.uniform(tuple(x.shape))[0]
            mask = scaled_keep_mask(u, p, x)  # like x
            return x * mask, mask

        def backward(g: Tensor, mask: Tensor | None, wants_input: bool) -> Tensor:
            if mask is None:
                return g
            return g * mask

        return ForwardBackward(forward, backward)

    return bind


def _by_output(activation: Activation, slope: Slope) -> LayerRule:
    """An activation whose gradient is a formula in its output."""

    def bind(layer: BoundLayer) -> ForwardBackward:
        module = layer.module

        def forward(x: Tensor) -> tuple[Tensor, Any]:
            out = activation(module, x)
            return out, out

        def backward(g: Tensor, out: Tensor, wants_input: bool) -> Tensor:
            return slope(module, g, out)

        return ForwardBackward(forward, backward)

    return bind


def _by_input(activation: Activation, slope: Slope) -> LayerRule:
    """An activation whose gradient is a formula in its input."""

    def bind(layer: BoundLayer) -> ForwardBackward:
        module = layer.module

        def forward(x: Tensor) -> tuple[Tensor, Any]:
            return activation(module, x), x

        def backward(g: Tensor, x: Tensor, wants_input: bool) -> Tensor:
            return slope(module, g, x)

        return ForwardBackward(forward, backward)

    return bind


def _relu(layer: BoundLayer) -> ForwardBackward:
    """In place where it may be: a population's arrays are larger than the caches."""
    activate = torch.relu_ if layer.may_overwrite else torch.relu

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        out = activate(x)
        return out, out

    def backward(g: Tensor, out: Tensor, wants_input: bool) -> Tensor:
        # g is nobody else's, so it is overwritten.
        threshold_into(g, out, 0, grad_input=g)
        return g

    return ForwardBackward(forward, backward)


def _flatten_columns(layer: BoundLayer) -> ForwardBackward:
    """[S, C, H, W, B] → [S, C·H·W, B]."""

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        return x.flatten(1, -2), x.shape

    def backward(g: Tensor, shape: torch.Size, wants_input: bool) -> Tensor:
        return g.view(shape)

    return ForwardBackward(forward, backward)


def _flatten_to_columns(layer: BoundLayer) -> ForwardBackward:
    """[B, C, H, W] → [1, C·H·W, B]."""

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        columns = x.flatten(1).t()  # [C·H·W, B]
        return columns.unsqueeze(0), x.shape

    def backward(g: Tensor, shape: torch.Size, wants_input: bool) -> Tensor:
        by_example = g[0].t()  # [B, C·H·W]
        return by_example.reshape(shape).contiguous()

    return ForwardBackward(forward, backward)


def _identity(layer: BoundLayer) -> ForwardBackward:
    def forward(x: Tensor) -> tuple[Tensor, Any]:
        return x, None

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        return g

    return ForwardBackward(forward, backward)


def _elu_slope(module: Any, g: Tensor, out: Tensor) -> Tensor:
    return aten.elu_backward(g, module.alpha, 1, 1, True, out)  # type: ignore[no-any-return]


def _leaky_relu_slope(module: Any, g: Tensor, x: Tensor) -> Tensor:
    slope = module.negative_slope
    return aten.leaky_relu_backward(g, x, slope, False)  # type: ignore[no-any-return]


COLUMN_RULES: LayerRules = {
    nn.Linear: _dense,
    ExplicitLinear: _dense,
    nn.Conv2d: _small_convolution,
    nn.MaxPool2d: max_pool,
    nn.BatchNorm1d: batch_norm_of_columns,
    nn.BatchNorm2d: batch_norm_of_columns,
    nn.LayerNorm: layer_norm_of_columns,
    Dropout: _dropout(columns=True),
    nn.Flatten: _flatten_columns,
    nn.Identity: _identity,
    nn.ReLU: _relu,
    nn.ELU: _by_output(
        lambda module, x: F.elu(x, module.alpha),
        _elu_slope,
    ),
    nn.SELU: _by_output(
        lambda module, x: torch.selu(x),
        lambda module, g, out: aten.elu_backward(g, _SELU_ALPHA, _SELU_SCALE, 1, True, out),
    ),
    nn.Sigmoid: _by_output(
        lambda module, x: torch.sigmoid(x),
        lambda module, g, out: aten.sigmoid_backward(g, out),
    ),
    nn.Tanh: _by_output(
        lambda module, x: torch.tanh(x),
        lambda module, g, out: aten.tanh_backward(g, out),
    ),
    nn.GELU: _by_input(
        lambda module, x: F.gelu(x),
        lambda module, g, x: aten.gelu_backward(g, x),
    ),
    nn.LeakyReLU: _by_input(
        lambda module, x: F.leaky_relu(x, module.negative_slope),
        _leaky_relu_slope,
    ),
}
# Up to the Flatten, in the library's layout [B, C, H, W].
PICTURE_RULES: LayerRules = {
    **COLUMN_RULES,
    nn.Conv2d: _library_convolution,
    nn.BatchNorm2d: batch_norm,
    Dropout: _dropout(columns=False),
    nn.Flatten: _flatten_to_columns,
}
# Layers that give arrays which they do not keep: whatever follows may overwrite them.
MAKES_NEW_ARRAY = (
    nn.Linear,
    ExplicitLinear,
    nn.Conv2d,
    nn.MaxPool2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.LayerNorm,
)
