"""A chain of layers as explicit forward and backward passes, without an autograd graph.

For small networks the graph costs more than the arithmetic. The formulas are those autograd would use, so the
numbers agree to rounding; a network with any other layer simply trains by autograd.

Examples are columns: past the Flatten an array is [n, B], so that the innermost loop of every operation, down to the
softmax, runs over the batch and a layer of eight units wastes nothing. Pictures are [B, C, H, W] for the library's
convolutions, or [C, H, W, B] where all convolutions are small and one product over unfolded patches beats them.

Legend: g gradient of the loss by a layer's output; B examples, C channels in, q out, k kernel, o output side.
An entry of the tables binds a layer and gives (forward, backward): forward(x) → (output, saved);
backward(g, saved, wants_input) → the gradient by the input (if wanted), writing the parameters' into their `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.layers import Affine, Dropout

aten = torch.ops.aten
threshold_into = aten.threshold_backward.grad_input
Forward = Callable[[Tensor], tuple[Tensor, Any]]
Backward = Callable[[Tensor, Any, bool], Tensor]
Passes = tuple[Forward, Backward]

_TINY = 4000  # weights up to which a convolution is faster unfolded (8→16 5×5 gains, 16→32 loses)…
_PATCHES = 16 << 20  # …as long as its patches are no more bytes (28×28 in batches of 256, 32×32×3 in batches of 64)


def _dense(layer: Any) -> Passes:
    w, b = layer.weight.detach(), layer.bias.detach().unsqueeze(1)
    dw, db, wt = layer.weight.grad, layer.bias.grad, w.t()

    def backward(g: Tensor, x: Tensor, wants_input: bool) -> Tensor:
        torch.mm(g, x.t(), out=dw)
        torch.sum(g, 1, out=db)
        return torch.mm(wt, g) if wants_input else g

    return lambda x: (torch.addmm(b, w, x), x), backward


def _conv(layer: nn.Conv2d) -> Passes:
    """The library's, on [B, C, H, W]."""
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


def _unfolded(layer: Any) -> Passes:
    """One product W [q, C·k·k] × patches [C·k·k, o·o·B], on [C, H, W, B]."""
    q, c, kh, kw = layer.weight.shape
    (sh, sw), (ph, pw) = layer.stride, layer.padding
    w, b = layer.weight.detach().view(q, -1), layer.bias.detach().unsqueeze(1)
    dw, db = layer.weight.grad.view(q, -1), layer.bias.grad
    by_input = w.view(q, c, kh, kw).permute(3, 2, 1, 0)  # [kw, kh, C, q], a view: follows the weights

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        x = F.pad(x, (0, 0, pw, pw, ph, ph)) if ph or pw else x.contiguous()
        _, height, width, n = x.shape
        oh, ow = (height - kh) // sh + 1, (width - kw) // sw + 1
        of_c, of_h, of_w, _ = x.stride()
        windows = x.as_strided((c, kh, kw, oh, ow, n), (of_c, of_h, of_w, sh * of_h, sw * of_w, 1))
        patches = windows.reshape(c * kh * kw, oh, ow * n)
        out = torch.mm(w, patches.flatten(1)).add_(b)
        return out.view(q, oh, ow, n), (patches, height, width)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        patches, height, width = saved
        _, oh, ow, n = g.shape
        g = g.reshape(q, oh, ow * n)
        # A product per output row stays in the cache; one product over all rows took twice as long.
        torch.sum(torch.bmm(g.transpose(0, 1), patches.permute(1, 2, 0)), 0, out=dw)
        torch.sum(g, (1, 2), out=db)
        if not wants_input:
            return g
        spread = (by_input.reshape(-1, q) @ g.flatten(1)).view(kw, kh * c, oh, ow, n)
        rows = g.new_zeros(kh * c, oh, width, n)
        for j in range(kw):
            rows[:, :, j : j + sw * ow : sw] += spread[j]
        rows = rows.view(kh, c, oh, width, n)
        given = g.new_zeros(c, height, width, n)
        for i in range(kh):
            given[:, i : i + sh * oh : sh] += rows[i]
        return given[:, ph : height - ph, pw : width - pw]

    return forward, backward


def _pool(rows: int, columns: int) -> Callable[[Any], Passes]:
    """2×2: the maximum of neighbours in a row, then of those below each other; several times the library's speed on a CPU.

    rows, columns: the axes. Of equals the first in reading order gets the gradient, as in the library.
    """

    def halves(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        before = (slice(None),) * dim
        return x[(*before, slice(0, None, 2))], x[(*before, slice(1, None, 2))]

    def spread(g: Tensor, x: Tensor, dim: int) -> Tensor:
        # To the larger neighbour, of equals to the first.
        out = torch.empty_like(x)
        (first, second), (to_first, to_second) = halves(x, dim), halves(out, dim)
        torch.sub(second, first, out=to_second)
        threshold_into(g, to_second, 0, grad_input=to_second)
        torch.sub(g, to_second, out=to_first)
        return out

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        halved = torch.maximum(*halves(x, columns))
        return torch.maximum(*halves(halved, rows)), (x, halved)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        x, halved = saved
        return spread(spread(g, halved, rows), x, columns)

    return lambda layer: (forward, backward)


def _norm(layer: Any) -> Passes:
    """On [B, C, H, W]."""
    w, b, mean, var = layer.weight.detach(), layer.bias.detach(), layer.running_mean, layer.running_var
    dw, db, momentum, eps, count = layer.weight.grad, layer.bias.grad, layer.momentum, layer.eps, layer.num_batches_tracked

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if layer.training:
            count.add_(1)
        out, centre, scale = aten.native_batch_norm(x, w, b, mean, var, layer.training, momentum, eps)
        return out, (x, centre, scale)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        x, centre, scale = saved
        mask = [wants_input, True, True]
        given, by_w, by_b = aten.native_batch_norm_backward(
            g.contiguous(), x, w, mean, var, centre, scale, layer.training, eps, mask
        )
        dw.copy_(by_w)
        db.copy_(by_b)
        return given if wants_input else g

    return forward, backward


def _norm_columns(layer: Any) -> Passes:
    """On [C, …, B], which to the kernel is one example of many pixels."""
    there, back = _norm(layer)

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        out, saved = there(x.reshape(1, len(x), -1))
        return out.view(x.shape), saved

    return forward, lambda g, saved, wants: back(g.reshape(1, len(g), -1), saved, wants).view(g.shape)


def _dropout(layer: Dropout) -> Passes:
    """On [B, …]."""

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if not layer.training or not layer.p:
            return x, None
        mask = layer.mask(x)
        return x * mask, mask

    return forward, lambda g, mask, wants_input: g if mask is None else g * mask


def _dropout_columns(layer: Dropout) -> Passes:
    """On […, B]: the mask is drawn as the layer itself would, example by example."""
    there, back = _dropout(layer)

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        out, mask = there(x.movedim(-1, 0))
        return out.movedim(0, -1), None if mask is None else mask.movedim(0, -1)

    return forward, back


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
    nn.MaxPool2d: _pool(2, 3),
    nn.BatchNorm1d: _norm_columns,
    nn.BatchNorm2d: _norm,
    Dropout: _dropout_columns,
    nn.Flatten: lambda m: (
        lambda x: (x.flatten(1).t(), x.shape),
        lambda g, shape, wants: g.t().reshape(shape).contiguous(),
    ),
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
PICTURES: dict[type[nn.Module], Callable[[Any], Passes]] = {**LAYERS, Dropout: _dropout}  # before the Flatten
COLUMNS: dict[type[nn.Module], Callable[[Any], Passes]] = {  # where pictures, too, are [C, H, W, B]
    **LAYERS,
    nn.Conv2d: _unfolded,
    nn.MaxPool2d: _pool(1, 2),
    nn.BatchNorm2d: _norm_columns,
    nn.Flatten: lambda m: (lambda x: (x.flatten(0, -2), x.shape), lambda g, shape, wants: g.view(shape)),
}


def _known(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the rules above hold for this very layer on inputs of that shape."""
    if isinstance(layer, nn.MaxPool2d):
        form = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices)
        return form == (2, 2, 0, 1, False, False) and len(shape) == 3 and shape[1] % 2 == 0 and shape[2] % 2 == 0
    if isinstance(layer, nn.Conv2d):
        zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return zeros and layer.bias is not None and layer.groups == 1 and layer.dilation == (1, 1) and len(shape) == 3
    if isinstance(layer, Affine):
        return len(shape) == 1
    if isinstance(layer, nn.Linear):
        return layer.bias is not None and len(shape) == 1
    if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if isinstance(layer, nn.GELU):
        return layer.approximate == "none"
    return not getattr(layer, "inplace", False)


def _altered(layer: nn.Module) -> bool:
    """Whether hooks, parametrisations or a `forward` of its own make the layer something else than its type says."""
    hooks: list[Any] = [layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks]
    for p in layer.parameters():
        hooks += [p._backward_hooks, getattr(p, "_post_accumulate_grad_hooks", None)]
    replaced = any(getattr(layer, k, None) is not p for k, p in layer._parameters.items())
    return any(hooks) or replaced or "forward" in vars(layer)


@torch.no_grad()
def compile(model: nn.Module, input_shape: tuple[int, ...], batch_size: int) -> Chain | None:
    """The model as a chain, or None when it holds anything but known, trainable layers in sequence.

    Parameters must have their `.grad` already: the passes write into it. batch_size: what the chain is made fast for.
    """
    parameters = list(model.parameters())
    if type(model) is not nn.Sequential or not parameters or any(p.grad is None for p in parameters):
        return None
    layers = list(model)
    used = [id(p) for layer in layers for p in layer.parameters()]
    if len(set(used)) < len(used) or any(map(_altered, (model, *layers))):
        return None  # a parameter used twice has the sum of two gradients
    x = parameters[0].new_zeros(2, *input_shape)
    tiny, flattened, was = True, len(input_shape) == 1, model.training
    model.eval()
    try:
        for layer in layers:
            if type(layer) not in LAYERS or not _known(layer, tuple(x.shape[1:])):
                return None
            if isinstance(layer, nn.Flatten) and flattened and len(input_shape) > 1:
                return None
            flattened = flattened or isinstance(layer, nn.Flatten)
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                patches = layer.weight[0].numel() * x[0, 0].numel() * batch_size * x.element_size()
                tiny = tiny and layer.weight.numel() <= _TINY and patches <= _PATCHES
    finally:
        model.train(was)
    return Chain(layers, len(input_shape) == 1 or tiny) if x.ndim == 2 else None


class Chain:
    """Layers in order, with the passes of each."""

    def __init__(self, layers: list[nn.Module], columns: bool) -> None:
        order = list(layers)
        for k in range(len(order) - 1):
            # ReLU after max pooling gives the same numbers as before it, on a quarter of the values.
            if isinstance(order[k], nn.ReLU) and isinstance(order[k + 1], nn.MaxPool2d):
                order[k], order[k + 1] = order[k + 1], order[k]
        self.columns = columns
        end = next((k for k, layer in enumerate(order) if isinstance(layer, nn.Flatten)), 0)
        tables = (COLUMNS if columns else PICTURES if k < end else LAYERS for k in range(len(order)))
        passes = [table[type(layer)](layer) for table, layer in zip(tables, order, strict=True)]
        self.forwards = [there for there, _ in passes]
        first = [any(True for _ in layer.parameters()) for layer in order].index(True)  # before it, no gradient is needed
        self.backwards = [(k, back, k > first) for k, (_, back) in enumerate(passes) if k >= first][::-1]

    def forward(self, x: Tensor) -> tuple[Tensor, list[Any]]:
        """Outputs [B, q] for x [B, …], and what the backward pass needs of each layer.

        Layers behave as in training or in evaluation, whichever the model is set to.
        """
        kept = []
        if self.columns:
            x = x.movedim(0, -1)
        for there in self.forwards:
            x, saved = there(x)
            kept.append(saved)
        return x.t(), kept

    def backward(self, g: Tensor, kept: list[Any]) -> None:
        """Overwrite the gradient of every parameter; g [B, q]."""
        g = g.t()
        for k, back, wants_input in self.backwards:
            g = back(g, kept[k], wants_input)
