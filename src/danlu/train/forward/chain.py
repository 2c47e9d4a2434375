"""A chain of layers, trained by explicit passes without an autograd graph.

For small networks the graph costs more than the arithmetic. A network with any layer outside the tables of
`danlu.train.passes` trains by autograd.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from danlu.nn.layers import ExplicitLinear
from danlu.train.forward.layer_rules import FRESH, LAYERS, PICTURES, Layer, MemberLayout

_TINY = 4000  # weights up to which a convolution is faster unfolded (8→16 5×5 gains, 16→32 loses)…
_PATCHES = (
    16 << 20
)  # …as long as its patches are no more bytes (28×28 in batches of 256, 32×32×3 in batches of 64)


def _known(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the rules above hold for this very layer on inputs of that shape."""
    if isinstance(layer, nn.MaxPool2d):
        form = (
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.ceil_mode,
            layer.return_indices,
        )
        return (
            form == (2, 2, 0, 1, False, False)
            and len(shape) == 3
            and shape[1] % 2 == 0
            and shape[2] % 2 == 0
        )
    if isinstance(layer, nn.Conv2d):
        zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return (
            zeros
            and layer.bias is not None
            and layer.groups == 1
            and layer.dilation == (1, 1)
            and len(shape) == 3
        )
    if isinstance(layer, ExplicitLinear):
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
    hooks: list[Any] = [
        layer._forward_hooks,
        layer._forward_pre_hooks,
        layer._backward_hooks,
        layer._backward_pre_hooks,
    ]
    for p in layer.parameters():
        hooks += [p._backward_hooks, getattr(p, "_post_accumulate_grad_hooks", None)]
    replaced = any(getattr(layer, k, None) is not p for k, p in layer._parameters.items())
    return any(hooks) or replaced or "forward" in vars(layer)


@torch.no_grad()
def fits(model: nn.Module, input_shape: tuple[int, ...], batch_size: int) -> bool | None:
    """Whether the model is a chain: None when it holds anything but known, trainable layers in sequence.

    True: examples are columns from the start; False: pictures go in the library's layout, one network at a time.
    """
    parameters = list(model.parameters())
    if (
        type(model) is not nn.Sequential
        or not parameters
        or not all(p.requires_grad for p in parameters)
    ):
        return None
    layers = [layer for _, layer in in_order(model)]
    used = [id(p) for layer in layers for p in layer.parameters()]
    whole = [m for m in model.modules() if type(m) is nn.Sequential]
    if len(set(used)) < len(used) or any(map(_altered, (*whole, *layers))):
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
    return (len(input_shape) == 1 or tiny) if x.ndim == 2 else None


def in_order(model: nn.Module, path: str = "") -> list[tuple[str, nn.Module]]:
    """The layers of a sequence, also of sequences within it, in order (also a layer that comes twice), with their paths."""
    found = []
    for name, layer in model._modules.items():
        if type(layer) is nn.Sequential:
            found += in_order(layer, f"{path}{name}.")
        elif layer is not None:
            found.append((path + name, layer))
    return found


class Chain:
    """Layers in order, with the passes of each.

    model: sets what the layers are and whether they train; values, grads: parameters, buffers and gradients [M, …] by
    name; p: dropout's probability by layer, where members differ. columns: as `fits` says.
    """

    def __init__(
        self,
        model: nn.Module,
        columns: bool,
        crowd: MemberLayout,
        values: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        p: Mapping[str, Any],
    ) -> None:
        order = in_order(model)
        for k in range(len(order) - 1):
            # ReLU after max pooling gives the same numbers as before it, on a quarter of the values.
            if isinstance(order[k][1], nn.ReLU) and isinstance(order[k + 1][1], nn.MaxPool2d):
                order[k], order[k + 1] = order[k + 1], order[k]
        self.columns, self.model = columns, model
        self.carried = None  # from one batch to the next: nothing
        end = next((k for k, (_, layer) in enumerate(order) if isinstance(layer, nn.Flatten)), 0)
        passes = []
        for k, (name, module) in enumerate(order):
            own, slopes = (
                {
                    key.removeprefix(f"{name}."): t
                    for key, t in of.items()
                    if key.startswith(f"{name}.")
                }
                for of in (values, grads)
            )
            table = LAYERS if columns or k > end else PICTURES
            spare = k > 0 and type(order[k - 1][1]) in FRESH
            layer = Layer(module, crowd, own, slopes, p.get(name, getattr(module, "p", 0.0)), spare)
            passes.append(table[type(module)](layer))
        self.forwards = [there for there, _ in passes]
        first = [any(True for _ in layer.parameters()) for _, layer in order].index(
            True
        )  # before it, no gradient is needed
        self.backwards = [(k, back, k > first) for k, (_, back) in enumerate(passes) if k >= first][
            ::-1
        ]

    def forward(self, x: Tensor) -> tuple[Tensor, list[Any]]:
        """Outputs [M, q, B] for x [S, B, …], and in training what the backward pass needs of each layer."""
        kept = []
        x = x.movedim(1, -1) if self.columns else x[0]
        for there in self.forwards:
            x, saved = there(x)
            if self.model.training:
                kept.append(saved)
        return x, kept

    def backward(self, g: Tensor, kept: list[Any]) -> None:
        """Overwrite the gradient of every parameter; g [M, q, B]."""
        for k, back, wants_input in self.backwards:
            g = back(g, kept[k], wants_input)
