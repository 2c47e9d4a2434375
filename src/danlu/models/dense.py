"""Dense networks: softmax regression, and any number of hidden layers.

Legend: n inputs, q outputs of a layer.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from danlu.errors import ModelError, wrong
from danlu.nn.layers import ACTIVATIONS, ExplicitLinear, Dropout, PHMLinear

Layers = OrderedDict[str, nn.Module]


def add_block(
    layers: Layers,
    k: str,
    layer: nn.Module,
    norm: nn.Module | None,
    activation: str,
    batch_norm: str,
    kind: str = "dense",
) -> None:
    """A layer, its activation, and batch normalisation before or after that."""
    layers[f"{kind}{k}"] = layer
    if batch_norm == "before" and norm:
        layers[f"norm{k}"] = norm
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
    factor: int,
    first: int = 1,
) -> None:
    """Hidden layers and the output layer, numbered from `first`."""
    for k, q in enumerate(hidden, first):
        layer = nn.Linear(n, q) if factor == 1 else _factorised(n, q, factor, k)
        add_block(
            layers,
            str(k),
            layer,
            nn.BatchNorm1d(q) if batch_norm != "none" else None,
            activation,
            batch_norm,
        )
        if dropout:
            layers[f"dropout{k}"] = Dropout(dropout)
        n = q
    layers["output"] = nn.Linear(n, outputs)


def _factorised(n: int, q: int, factor: int, k: int) -> PHMLinear:
    if n % factor or q % factor:
        raise ModelError(
            wrong(
                "model.factor", factor, f"must divide the {n} inputs and {q} outputs of `dense{k}`"
            )
        )
    return PHMLinear(n, q, factor)


def build(
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    hidden: tuple[int, ...],
    activation: str,
    batch_norm: str,
    dropout: float,
    factor: int,
) -> nn.Module:
    """Flatten, hidden layers, output logits."""
    layers: Layers = OrderedDict(flatten=nn.Flatten())
    add_dense(
        layers, math.prod(input_shape), outputs, hidden, activation, batch_norm, dropout, factor
    )
    return nn.Sequential(layers)


def build_explicit(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Softmax regression from first principles: o = XW + b written out."""
    return nn.Sequential(
        OrderedDict(flatten=nn.Flatten(), output=ExplicitLinear(math.prod(input_shape), outputs))
    )
