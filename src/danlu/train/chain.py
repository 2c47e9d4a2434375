"""A chain of layers as explicit forward and backward passes, without an autograd graph.

For small networks the graph costs more than the arithmetic. The products and formulas are those autograd would
use, so the numbers agree to rounding; a network with any other layer simply trains by autograd.

Legend: g gradient of the loss by a layer's output. Each entry of `LAYERS` is (forward, backward):
forward(layer, x) → (output, saved); backward(layer, g, saved, wants_input) → gradient by the input,
writing the parameters' gradients into their `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.layers import Affine, Dropout

aten = torch.ops.aten
Forward = Callable[[Any, Tensor], tuple[Tensor, Any]]
Backward = Callable[[Any, Tensor, Any, bool], Tensor]


def _linear(layer: Any, x: Tensor) -> tuple[Tensor, Any]:
    return torch.addmm(layer.bias, x, layer.weight.t()), x


def _linear_back(layer: Any, g: Tensor, x: Tensor, wants_input: bool) -> Tensor:
    w = layer.weight
    if w.is_contiguous():
        torch.mm(g.t(), x, out=w.grad)
    else:  # stored as [n, q]: see `first_weight`
        torch.mm(x.t(), g, out=w.grad.t())
    torch.sum(g, 0, out=layer.bias.grad)
    return torch.mm(g, w) if wants_input else g


def _conv(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, Any]:
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding), x


def _conv_back(layer: nn.Conv2d, g: Tensor, x: Tensor, wants_input: bool) -> Tensor:
    w, b = layer.weight, layer.bias
    assert b is not None
    given, dw, db = aten.convolution_backward(
        g, x, w, [len(b)], layer.stride, layer.padding, (1, 1), False, (0, 0), 1, [wants_input, True, True]
    )
    w.grad.copy_(dw)  # type: ignore[union-attr]
    b.grad.copy_(db)  # type: ignore[union-attr]
    return given if wants_input else g


def _pool(layer: nn.MaxPool2d, x: Tensor) -> tuple[Tensor, Any]:
    """Maximum of vertical, then of horizontal neighbours: several times the speed of the framework's kernel on a CPU."""
    rows = torch.maximum(x[:, :, 0::2], x[:, :, 1::2])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2]), (x, rows)


def _pool_back(layer: nn.MaxPool2d, g: Tensor, saved: Any, wants_input: bool) -> Tensor:
    """The gradient goes to the larger neighbour, to the upper left one of equals."""
    x, rows = saved
    by_rows = torch.empty_like(rows)
    right = aten.threshold_backward(g, rows[..., 1::2] - rows[..., 0::2], 0)
    by_rows[..., 1::2] = right
    torch.sub(g, right, out=by_rows[..., 0::2])
    out = torch.empty_like(x)
    low = out[:, :, 1::2]
    low.copy_(aten.threshold_backward(by_rows, x[:, :, 1::2] - x[:, :, 0::2], 0))
    torch.sub(by_rows, low, out=out[:, :, 0::2])
    return out


def _norm(layer: Any, x: Tensor) -> tuple[Tensor, Any]:
    layer.num_batches_tracked.add_(1)
    out, mean, scale = aten.native_batch_norm(
        x, layer.weight, layer.bias, layer.running_mean, layer.running_var, True, layer.momentum, layer.eps
    )
    return out, (x, mean, scale)


def _norm_back(layer: Any, g: Tensor, saved: Any, wants_input: bool) -> Tensor:
    x, mean, scale = saved
    given, dw, db = aten.native_batch_norm_backward(
        g.contiguous(), x, layer.weight, layer.running_mean, layer.running_var, mean, scale, True, layer.eps, [True, True, True]
    )
    layer.weight.grad.copy_(dw)
    layer.bias.grad.copy_(db)
    return given  # type: ignore[no-any-return]


def _dropout(layer: Dropout, x: Tensor) -> tuple[Tensor, Any]:
    mask = layer.mask(x)
    return x * mask, mask


def _elementwise(forward: Callable[[Any, Tensor], Tensor], backward: Callable[[Any, Tensor, Tensor], Tensor], keep_input: bool) -> tuple[Forward, Backward]:
    """A layer whose gradient needs its output, or its input."""

    def there(layer: Any, x: Tensor) -> tuple[Tensor, Any]:
        out = forward(layer, x)
        return out, x if keep_input else out

    return there, lambda layer, g, saved, wants_input: backward(layer, g, saved)


LAYERS: dict[type[nn.Module], tuple[Forward, Backward]] = {
    nn.Linear: (_linear, _linear_back),
    Affine: (_linear, _linear_back),
    nn.Conv2d: (_conv, _conv_back),
    nn.MaxPool2d: (_pool, _pool_back),
    nn.BatchNorm1d: (_norm, _norm_back),
    nn.BatchNorm2d: (_norm, _norm_back),
    nn.Flatten: (lambda m, x: (x.flatten(1), x.shape), lambda m, g, shape, wants: g.view(shape)),
    Dropout: (_dropout, lambda m, g, mask, wants: g * mask),
    nn.Identity: (lambda m, x: (x, None), lambda m, g, saved, wants: g),
    nn.ReLU: _elementwise(lambda m, x: torch.relu(x), lambda m, g, out: aten.threshold_backward(g, out, 0), False),
    nn.LeakyReLU: _elementwise(
        lambda m, x: F.leaky_relu(x, m.negative_slope),
        lambda m, g, x: aten.leaky_relu_backward(g, x, m.negative_slope, False),
        True,
    ),
    nn.ELU: _elementwise(lambda m, x: F.elu(x, m.alpha), lambda m, g, out: aten.elu_backward(g, m.alpha, 1, 1, True, out), False),
    nn.GELU: _elementwise(lambda m, x: F.gelu(x), lambda m, g, x: aten.gelu_backward(g, x), True),
    nn.Sigmoid: _elementwise(lambda m, x: torch.sigmoid(x), lambda m, g, out: aten.sigmoid_backward(g, out), False),
    nn.Tanh: _elementwise(lambda m, x: torch.tanh(x), lambda m, g, out: aten.tanh_backward(g, out), False),
}


def _known(layer: nn.Module, side: tuple[int, ...]) -> bool:
    """Whether the rules above hold for this very layer on inputs of that shape."""
    if isinstance(layer, nn.MaxPool2d):
        plain = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode) == (2, 2, 0, 1, False)
        return plain and len(side) == 3 and side[1] % 2 == 0 and side[2] % 2 == 0
    if isinstance(layer, nn.Conv2d):
        return layer.bias is not None and layer.groups == 1 and layer.dilation == (1, 1) and not isinstance(layer.padding, str)
    if isinstance(layer, nn.Linear):
        return layer.bias is not None
    if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    return not (isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) != (1, -1)) and not getattr(layer, "inplace", False)


def compile(model: nn.Module, input_shape: tuple[int, ...]) -> Chain | None:
    """The model as a chain, or None when it holds anything but layers of the table in sequence."""
    if type(model) is not nn.Sequential:
        return None
    layers = list(model)
    x = torch.zeros(2, *input_shape, dtype=next(model.parameters()).dtype, device=next(model.parameters()).device)
    was = model.training
    model.eval()
    with torch.no_grad():
        for layer in layers:
            if type(layer) not in LAYERS or not _known(layer, tuple(x.shape[1:])):
                model.train(was)
                return None
            x = layer(x)
    model.train(was)
    return Chain(layers)


def first_weight(model: nn.Module) -> Tensor | None:
    """The weight of a dense layer that the data enter, if the model is such a chain.

    Its gradient by the input is never needed, so it is best stored as [n, q]: both remaining products are
    then of the kind that the matrix library does fastest (on a CPU 1.5–2 times).
    """
    if type(model) is nn.Sequential:
        for layer in model:
            if isinstance(layer, (nn.Linear, Affine)):
                return layer.weight
            if not isinstance(layer, nn.Flatten):
                break
    return None


class Chain:
    """Layers in order, with the passes of each."""

    def __init__(self, layers: list[nn.Module]) -> None:
        order = list(layers)
        for k in range(len(order) - 1):
            # ReLU after max pooling gives the same numbers as before it, on a quarter of the values.
            if isinstance(order[k], nn.ReLU) and isinstance(order[k + 1], nn.MaxPool2d):
                order[k], order[k + 1] = order[k + 1], order[k]
        self.steps = [(layer, *LAYERS[type(layer)]) for layer in order]
        has = [any(True for _ in layer.parameters()) for layer in order]
        self.first = has.index(True)  # layers before it need no gradient

    def forward(self, x: Tensor) -> tuple[Tensor, list[Any]]:
        """Outputs, and what the backward pass needs of each layer."""
        kept = []
        for layer, there, _ in self.steps:
            x, saved = there(layer, x)
            kept.append(saved)
        return x, kept

    def backward(self, g: Tensor, kept: list[Any]) -> None:
        """Overwrite the gradient of every parameter."""
        for k in range(len(self.steps) - 1, self.first - 1, -1):
            layer, _, back = self.steps[k]
            g = back(layer, g, kept[k], k > self.first)
