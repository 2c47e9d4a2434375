"""Dense networks: softmax regression, and any number of hidden layers.

Legend: n inputs, q outputs of a layer.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import Tensor, nn

from danlu.errors import ModelError, wrong
from danlu.models import fields
from danlu.nn.layers import ACTIVATIONS, Dropout, ExplicitLinear, PHMLinear

Layers = OrderedDict[str, nn.Module]

FIELDS = (
    fields.HIDDEN,
    fields.ACTIVATION,
    fields.BATCH_NORM,
    fields.LAYER_NORM,
    fields.DROPOUT,
    fields.PHM_N,
    fields.RESIDUAL,
)
SOFTMAX_FIELDS = (fields.HIDDEN.with_default(()), *FIELDS[1:])


def add_block(
    layers: Layers,
    k: str,
    layer: nn.Module,
    norm: nn.Module | None,
    activation: str,
    batch_norm: str,
    kind: str = "dense",
) -> None:
    """Add a layer, its activation, and batch normalisation before or after that."""
    layers[f"{kind}{k}"] = layer
    if batch_norm == "before" and norm:
        layers[f"norm{k}"] = norm
    # So that the module is an attribute: `net.leaky_relu1`.
    layers[f"{activation.replace('-', '_')}{k}"] = ACTIVATIONS[activation]()
    if batch_norm == "after" and norm:
        layers[f"norm{k}"] = norm


def add_dense(
    layers: Layers,
    n: int,
    outputs: int,
    hidden: tuple[int, ...],
    activation: str,
    batch_norm: str,
    dropout: float,
    phm_n: int = 1,
    first: int = 1,
    layer_norm: str = "none",
    residual: bool = False,
) -> None:
    """Add hidden layers and the output layer, numbered from `first`."""
    for k, q in enumerate(hidden, first):
        layer: nn.Module = nn.Linear(n, q)
        if phm_n != 1:
            layer = _phm_layer(n, q, phm_n, k)
        norm = nn.BatchNorm1d(q) if batch_norm != "none" else None
        block: Layers = OrderedDict()
        add_block(block, str(k), layer, norm, activation, batch_norm)
        if layer_norm != "none":
            _add_layer_norm(block, str(k), q, layer_norm)
        if dropout:
            block[f"dropout{k}"] = Dropout(dropout)
        if residual and q == n:
            layers[f"block{k}"] = Residual(block)
        else:
            layers.update(block)
        n = q
    layers["output"] = nn.Linear(n, outputs)


def _add_layer_norm(block: Layers, k: str, q: int, place: str) -> None:
    """Put layer normalisation right before or after the activation of a block."""
    names = list(block)
    activation = next(name for name in names if not name.startswith(("dense", "norm")))
    at = names.index(activation) + (place == "after")
    rest = [(name, block.pop(name)) for name in names[at:]]
    block[f"layer_norm{k}"] = nn.LayerNorm(q)
    block.update(rest)


class Residual(nn.Sequential):
    """x + f(x), f the layers in turn."""

    def forward(self, x: Tensor) -> Tensor:
        """x [B, n] → [B, n]."""
        made: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + made


def _phm_layer(n: int, q: int, phm_n: int, k: int) -> PHMLinear:
    if n % phm_n or q % phm_n:
        rule = f"must divide the {n} inputs and {q} outputs of `dense{k}`"
        raise ModelError(wrong("model.phm_n", phm_n, rule))
    return PHMLinear(n, q, phm_n)


def build(
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    hidden: tuple[int, ...],
    activation: str,
    batch_norm: str,
    layer_norm: str,
    dropout: float,
    phm_n: int,
    residual: bool,
) -> nn.Module:
    """Return flattening, hidden layers, output logits.

    Raises ModelError where `phm_n` does not divide a layer's sizes.
    """
    layers: Layers = OrderedDict(flatten=nn.Flatten())
    n = math.prod(input_shape)
    add_dense(
        layers,
        n,
        outputs,
        hidden,
        activation,
        batch_norm,
        dropout,
        phm_n,
        layer_norm=layer_norm,
        residual=residual,
    )
    return nn.Sequential(layers)


def build_explicit(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return softmax regression from first principles: o = XW + b written out."""
    output = ExplicitLinear(math.prod(input_shape), outputs)
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), output=output))
