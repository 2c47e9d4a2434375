"""A chain of layers, trained by explicit passes without an autograd graph.

For small networks the graph costs more than the arithmetic. A network with any layer outside the
tables of `danlu.train.forward.layer_rules` trains by autograd.

Legend: M networks, S batches in a step, B examples, q outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from danlu.nn.layers import ExplicitLinear
from danlu.train.forward.bound_layer import BoundLayer
from danlu.train.forward.interface import Heads, MemberLayout
from danlu.train.forward.layer_rules import COLUMN_RULES, MAKES_NEW_ARRAY, PICTURE_RULES

# Weights up to which a convolution is faster unfolded (8→16 5×5 gains, 16→32 loses)…
_MOST_UNFOLDED_WEIGHTS = 4000
# …as long as its patches are no more bytes (28×28 in batches of 256, 32×32×3 in batches of 64).
_MOST_PATCH_BYTES = 16 << 20


def _is_covered(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the layer rules hold for this very layer on inputs of that shape."""
    is_picture = len(shape) == 3
    is_vector = len(shape) == 1
    if isinstance(layer, nn.MaxPool2d):
        return is_picture and _is_plain_pool(layer) and _has_even_sides(shape)
    if isinstance(layer, nn.Conv2d):
        return is_picture and _is_plain_convolution(layer)
    if isinstance(layer, ExplicitLinear):
        return is_vector
    if isinstance(layer, nn.Linear):
        return is_vector and layer.bias is not None
    if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if isinstance(layer, nn.GELU):
        return layer.approximate == "none"
    return not getattr(layer, "inplace", False)


def _has_even_sides(shape: tuple[int, ...]) -> bool:
    _, height, width = shape
    return height % 2 == 0 and width % 2 == 0


def _is_plain_pool(layer: nn.MaxPool2d) -> bool:
    if (layer.kernel_size, layer.stride, layer.padding) != (2, 2, 0):
        return False
    return layer.dilation == 1 and not layer.ceil_mode and not layer.return_indices


def _is_plain_convolution(layer: nn.Conv2d) -> bool:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return False
    is_whole = layer.groups == 1 and layer.dilation == (1, 1)
    return is_whole and layer.bias is not None


def _is_altered(layer: nn.Module) -> bool:
    """Whether the layer does something else than its type says.

    By hooks, parametrisations, or a `forward` of its own.
    """
    hooks: list[Any] = [
        layer._forward_hooks,
        layer._forward_pre_hooks,
        layer._backward_hooks,
        layer._backward_pre_hooks,
    ]
    for p in layer.parameters():
        hooks.append(p._backward_hooks)
        hooks.append(getattr(p, "_post_accumulate_grad_hooks", None))
    if any(hooks) or "forward" in vars(layer):
        return True
    # A parametrisation puts a property in a parameter's place.
    for name, parameter in layer._parameters.items():
        if getattr(layer, name, None) is not parameter:
            return True
    return False


@torch.no_grad()
def chain_layout(model: nn.Module, input_shape: tuple[int, ...], batch_size: int) -> str | None:
    """Return how a chain lays out its arrays; None when the model is not a chain.

    A chain holds nothing but known, trainable layers in sequence. "columns": examples are columns
    from the start. "pictures": pictures go in the library's layout, one network at a time.
    """
    parameters = list(model.parameters())
    if type(model) is not nn.Sequential or not parameters:
        return None
    if not all(p.requires_grad for p in parameters):
        return None
    layers = [layer for _, layer in layers_in_order(model)]
    if _shares_parameters(layers):
        return None
    containers = [m for m in model.modules() if type(m) is nn.Sequential]
    if any(_is_altered(module) for module in (*containers, *layers)):
        return None

    # Two examples: batch normalisation of one has no variance.
    x = parameters[0].new_zeros(2, *input_shape)
    was_training = model.training
    model.eval()
    try:
        return _trace_layout(layers, x, batch_size)
    finally:
        model.train(was_training)


def _shares_parameters(layers: Sequence[nn.Module]) -> bool:
    """Whether two layers have a parameter in common: its gradient would be the sum of two."""
    used = []
    for layer in layers:
        used += [id(p) for p in layer.parameters()]
    return len(set(used)) < len(used)


def _trace_layout(layers: Sequence[nn.Module], x: Tensor, batch_size: int) -> str | None:
    """Return the layout for a chain, by passing two examples through it."""
    takes_vectors = x.ndim == 2
    is_flat = takes_vectors
    all_small = True
    for layer in layers:
        has_rule = type(layer) in COLUMN_RULES
        if not has_rule or not _is_covered(layer, tuple(x.shape[1:])):
            return None
        if isinstance(layer, nn.Flatten):
            # A second Flatten would have nothing to flatten.
            if is_flat and not takes_vectors:
                return None
            is_flat = True
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            all_small = all_small and _gains_by_unfolding(layer, x, batch_size)
    if x.ndim != 2:
        return None
    if takes_vectors or all_small:
        return "columns"
    return "pictures"


def _gains_by_unfolding(layer: nn.Conv2d, out: Tensor, batch_size: int) -> bool:
    """Whether a convolution is small enough to be faster unfolded; out: its output [2, q, H, W]."""
    if layer.weight.numel() > _MOST_UNFOLDED_WEIGHTS:
        return False
    pixels = out[0, 0].numel()
    values_of_patch = layer.weight[0].numel()
    patch_bytes = values_of_patch * pixels * batch_size * out.element_size()  # of a batch, unfolded
    return patch_bytes <= _MOST_PATCH_BYTES


def layers_in_order(model: nn.Module, path: str = "") -> list[tuple[str, nn.Module]]:
    """Return the layers of a sequence with their paths.

    Sequences within it are opened; a layer that comes twice is there twice.
    """
    found = []
    for name, layer in model._modules.items():
        if type(layer) is nn.Sequential:
            found += layers_in_order(layer, f"{path}{name}.")
        elif layer is not None:
            found.append((path + name, layer))
    return found


def _pool_before_relu(order: list[tuple[str, nn.Module]]) -> None:
    """Put max pooling before the ReLU it follows: the same numbers, on a quarter of the values."""
    for k in range(len(order) - 1):
        _, layer = order[k]
        _, following = order[k + 1]
        is_pooled_relu = isinstance(layer, nn.ReLU) and isinstance(following, nn.MaxPool2d)
        if is_pooled_relu:
            order[k : k + 2] = [order[k + 1], order[k]]


class Chain:
    """Layers in order, with the passes of each.

    model: says what the layers are and whether they train; tensors, grads: parameters, buffers and
    gradients [M, …] by name; p: dropout's probability by layer, where members differ; columns: as
    `chain_layout` says. in_order: whether to keep to the module's order where another is faster.
    """

    def __init__(
        self,
        model: nn.Module,
        columns: bool,
        layout: MemberLayout,
        tensors: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        p: Mapping[str, Any],
        in_order: bool = False,
    ) -> None:
        self.model = model
        self.columns = columns
        self.state: tuple[Tensor, ...] | None = None  # chains carry nothing
        order = layers_in_order(model)
        if not in_order:
            _pool_before_relu(order)
        self.order = order
        kinds = [type(layer) for _, layer in order]
        self.flatten_at = kinds.index(nn.Flatten) if nn.Flatten in kinds else 0

        passes = []
        for k, (path, module) in enumerate(order):
            module_p = getattr(module, "p", 0.0)
            layer = BoundLayer(
                module,
                layout,
                _of_layer(tensors, path),
                _of_layer(grads, path),
                p.get(path, module_p),
                # Not the network's input, which is the caller's.
                may_overwrite=k > 0 and kinds[k - 1] in MAKES_NEW_ARRAY,
            )
            rules = PICTURE_RULES
            if self.has_columns_before(k):
                rules = COLUMN_RULES
            bind = rules[kinds[k]]
            passes.append(bind(layer))

        self.forwards = [of_layer.forward for of_layer in passes]
        # Before the first layer with weights no gradient is needed.
        has_weights = [bool(list(module.parameters())) for _, module in order]
        self.first = has_weights.index(True)
        self.backwards = []
        for k in reversed(range(self.first, len(passes))):
            wants_input = k > self.first
            self.backwards.append((k, passes[k].backward, wants_input))

    def has_columns_before(self, k: int) -> bool:
        """Whether examples are columns in what layer k sees."""
        return self.columns or k > self.flatten_at

    def forward(self, x: Tensor) -> tuple[Heads, list[Any]]:
        """Return outputs [M, q, B] for x [S, B, …], and in training what each layer saved."""
        if self.columns:
            x = x.movedim(1, -1)  # [S, …, B]
        else:
            x = x[0]
        saved = []
        for layer_forward in self.forwards:
            x, of_layer = layer_forward(x)
            if self.model.training:
                saved.append(of_layer)
        return (x,), saved

    def backward(self, gradients: Sequence[Tensor], saved: list[Any]) -> None:
        """Overwrite the gradient of every parameter; gradients: one, [M, q, B]."""
        (g,) = gradients
        for k, layer_backward, wants_input in self.backwards:
            g = layer_backward(g, saved[k], wants_input)


def _of_layer(tensors: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """Return the tensors of one layer by their names within it."""
    prefix = f"{path}."
    own = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            own[name.removeprefix(prefix)] = tensor
    return own
