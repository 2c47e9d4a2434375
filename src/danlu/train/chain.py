"""A chain of layers as explicit forward and backward passes, without an autograd graph.

For small networks the graph costs more than the arithmetic. The products and formulas are those autograd would
use, so the numbers agree to rounding; a network with any other layer simply trains by autograd.

Legend: g gradient of the loss by a layer's output. An entry of `LAYERS` binds a layer and gives (forward, backward):
forward(x) → (output, saved); backward(g, saved, wants_input) → the gradient by the input (if wanted), writing the
parameters' gradients into their `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.layers import Affine, Dropout

aten = torch.ops.aten
Forward = Callable[[Tensor], tuple[Tensor, Any]]
Backward = Callable[[Tensor, Any, bool], Tensor]
Passes = tuple[Forward, Backward]


def _dense(layer: Any) -> Passes:
    w, b = layer.weight.detach(), layer.bias.detach()
    dw, db = layer.weight.grad, layer.bias.grad
    wt, dwt, plain = w.t(), dw.t(), w.is_contiguous()

    def backward(g: Tensor, x: Tensor, wants_input: bool) -> Tensor:
        if plain:
            torch.mm(g.t(), x, out=dw)
        else:  # stored as [n, q]: see `first_weight`
            torch.mm(x.t(), g, out=dwt)
        torch.sum(g, 0, out=db)
        return torch.mm(g, w) if wants_input else g

    return lambda x: (torch.addmm(b, x, wt), x), backward


def _conv(layer: nn.Conv2d) -> Passes:
    assert layer.bias is not None
    w, b = layer.weight.detach(), layer.bias.detach()
    dw, db = layer.weight.grad, layer.bias.grad
    assert dw is not None and db is not None
    stride, padding, q = layer.stride, layer.padding, [len(b)]

    def backward(g: Tensor, x: Tensor, wants_input: bool) -> Tensor:
        given, by_w, by_b = aten.convolution_backward(
            g, x, w, q, stride, padding, (1, 1), False, (0, 0), 1, [wants_input, True, True]
        )
        dw.copy_(by_w)
        db.copy_(by_b)
        return given if wants_input else g

    return lambda x: (F.conv2d(x, w, b, stride, padding), x), backward


def _pool(layer: nn.MaxPool2d) -> Passes:
    """2×2: the maximum of vertical, then of horizontal neighbours; several times the framework's speed on a CPU."""

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        rows = torch.maximum(x[:, :, 0::2], x[:, :, 1::2])
        return torch.maximum(rows[..., 0::2], rows[..., 1::2]), (x, rows)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        # To the larger neighbour; of equals to the upper one in a column, then to the left one.
        x, rows = saved
        by_rows, out = torch.empty_like(rows), torch.empty_like(x)
        right = aten.threshold_backward(g, rows[..., 1::2] - rows[..., 0::2], 0)
        by_rows[..., 1::2] = right
        torch.sub(g, right, out=by_rows[..., 0::2])
        low = aten.threshold_backward(by_rows, x[:, :, 1::2] - x[:, :, 0::2], 0)
        out[:, :, 1::2] = low
        torch.sub(by_rows, low, out=out[:, :, 0::2])
        return out

    return forward, backward


def _norm(layer: Any) -> Passes:
    w, b, mean, var = layer.weight.detach(), layer.bias.detach(), layer.running_mean, layer.running_var
    dw, db, momentum, eps, count = layer.weight.grad, layer.bias.grad, layer.momentum, layer.eps, layer.num_batches_tracked

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        count.add_(1)
        out, centre, scale = aten.native_batch_norm(x, w, b, mean, var, True, momentum, eps)
        return out, (x, centre, scale)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        x, centre, scale = saved
        mask = [wants_input, True, True]
        given, by_w, by_b = aten.native_batch_norm_backward(g.contiguous(), x, w, mean, var, centre, scale, True, eps, mask)
        dw.copy_(by_w)
        db.copy_(by_b)
        return given if wants_input else g

    return forward, backward


def _dropout(layer: Dropout) -> Passes:
    def forward(x: Tensor) -> tuple[Tensor, Any]:
        mask = layer.mask(x)
        return x * mask, mask

    return forward, lambda g, mask, wants_input: g * mask


def _by_output(
    forward: Callable[[Any, Tensor], Tensor], backward: Callable[[Any, Tensor, Tensor], Tensor]
) -> Callable[[Any], Passes]:
    """An activation whose gradient is a formula in its output."""

    def bind(layer: Any) -> Passes:
        def there(x: Tensor) -> tuple[Tensor, Any]:
            out = forward(layer, x)
            return out, out

        return there, lambda g, out, wants_input: backward(layer, g, out)

    return bind


def _by_input(
    forward: Callable[[Any, Tensor], Tensor], backward: Callable[[Any, Tensor, Tensor], Tensor]
) -> Callable[[Any], Passes]:
    """An activation whose gradient is a formula in its input."""
    return lambda layer: (lambda x: (forward(layer, x), x), lambda g, x, wants_input: backward(layer, g, x))


LAYERS: dict[type[nn.Module], Callable[[Any], Passes]] = {
    nn.Linear: _dense,
    Affine: _dense,
    nn.Conv2d: _conv,
    nn.MaxPool2d: _pool,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    Dropout: _dropout,
    nn.Flatten: lambda m: (lambda x: (x.flatten(1), x.shape), lambda g, shape, wants: g.reshape(shape)),
    nn.Identity: lambda m: (lambda x: (x, None), lambda g, saved, wants: g),
    nn.ReLU: _by_output(lambda m, x: torch.relu(x), lambda m, g, out: aten.threshold_backward(g, out, 0)),
    nn.ELU: _by_output(lambda m, x: F.elu(x, m.alpha), lambda m, g, out: aten.elu_backward(g, m.alpha, 1, 1, True, out)),
    nn.Sigmoid: _by_output(lambda m, x: torch.sigmoid(x), lambda m, g, out: aten.sigmoid_backward(g, out)),
    nn.Tanh: _by_output(lambda m, x: torch.tanh(x), lambda m, g, out: aten.tanh_backward(g, out)),
    nn.GELU: _by_input(lambda m, x: F.gelu(x), lambda m, g, x: aten.gelu_backward(g, x)),
    nn.LeakyReLU: _by_input(
        lambda m, x: F.leaky_relu(x, m.negative_slope), lambda m, g, x: aten.leaky_relu_backward(g, x, m.negative_slope, False)
    ),
}


def _known(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the rules above hold for this very layer on inputs of that shape."""
    if isinstance(layer, nn.MaxPool2d):
        plain = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode) == (2, 2, 0, 1, False)
        return plain and len(shape) == 3 and shape[1] % 2 == 0 and shape[2] % 2 == 0
    if isinstance(layer, nn.Conv2d):
        zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return zeros and layer.bias is not None and layer.groups == 1 and layer.dilation == (1, 1)
    if isinstance(layer, nn.Linear):
        return layer.bias is not None and len(shape) == 1
    if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if isinstance(layer, nn.GELU):
        return layer.approximate == "none"
    return not getattr(layer, "inplace", False)


@torch.no_grad()
def compile(model: nn.Module, input_shape: tuple[int, ...]) -> Chain | None:
    """The model as a chain, or None when it holds anything but known, trainable layers in sequence.

    Parameters must have their `.grad` already: the passes write into it.
    """
    parameters = list(model.parameters())
    if type(model) is not nn.Sequential or not parameters or any(p.grad is None for p in parameters):
        return None
    x = parameters[0].new_zeros(2, *input_shape)
    was = model.training
    model.eval()
    try:
        for layer in model:
            if type(layer) not in LAYERS or not _known(layer, tuple(x.shape[1:])):
                return None
            x = layer(x)
    finally:
        model.train(was)
    return Chain(list(model))


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
        self.layers = order
        passes = [LAYERS[type(layer)](layer) for layer in order]
        self.forwards = [there for there, _ in passes]
        first = [any(True for _ in layer.parameters()) for layer in order].index(True)  # before it, no gradient is needed
        self.backwards = [(k, back, k > first) for k, (_, back) in enumerate(passes) if k >= first][::-1]

    def forward(self, x: Tensor) -> tuple[Tensor, list[Any]]:
        """Outputs, and what the backward pass needs of each layer."""
        kept = []
        for there in self.forwards:
            x, saved = there(x)
            kept.append(saved)
        return x, kept

    def evaluate(self, x: Tensor) -> Tensor:
        """Outputs as in evaluation mode (the caller has set it)."""
        for layer, there in zip(self.layers, self.forwards, strict=True):
            x = there(x)[0] if isinstance(layer, nn.MaxPool2d) else layer(x)
        return x

    def backward(self, g: Tensor, kept: list[Any]) -> None:
        """Overwrite the gradient of every parameter."""
        for k, back, wants_input in self.backwards:
            g = back(g, kept[k], wants_input)
