"""Which forward pass trains which networks: the fastest that gives each its own numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from danlu.train.forward.chain import Chain, chain_layout
from danlu.train.forward.interface import ForwardPass, MemberLayout, Precision
from danlu.train.forward.modules import SingleForward, VmapForward
from danlu.train.forward.stack import Stack


def choose_forward_pass(
    model: nn.Module,
    stack: Stack,
    layout: MemberLayout,
    precision: Precision,
    dropout_p: Mapping[str, Sequence[float]],
    input_shape: tuple[int, ...],
    batch_size: int,
    has_closed_gradient: bool,
) -> ForwardPass:
    """Return the forward pass for the networks of a stack.

    dropout_p: by layer, of each network. has_closed_gradient: whether the loss's gradient by the
    outputs is a formula, which a chain needs.
    """
    p = dropout_columns(dropout_p, precision.device)
    arrangement = None
    # Under autocast the explicit passes would have to choose each operation's precision themselves.
    if has_closed_gradient and not precision.mixed:
        arrangement = chain_layout(model, input_shape, batch_size)
    # In the library's layout a convolution takes one network at a time.
    if arrangement == "columns" or (arrangement == "pictures" and stack.members == 1):
        columns = arrangement == "columns"
        return Chain(model, columns, layout, stack.tensors, stack.grads, p)

    for layer, of_each in dropout_p.items():
        # A layer whose p is 0 asks for no masks, and other networks may need them.
        model.get_submodule(layer).p = max(of_each)  # type: ignore[assignment]
    if stack.members > 1:
        return VmapForward(model, layout, stack, precision, p)
    return SingleForward(model, layout, stack, precision)


def dropout_columns(
    dropout_p: Mapping[str, Sequence[float]], device: torch.device
) -> dict[str, Any]:
    """Return the probabilities of each layer as its rule takes them."""
    columns = {}
    for layer, of_each in dropout_p.items():
        columns[layer] = _one_or_column(of_each, device)
    return columns


def _one_or_column(of_each: Sequence[float], device: torch.device) -> Any:
    """Return one number where all agree, else float64 [M]."""
    if len(set(of_each)) == 1:
        return of_each[0]
    return torch.tensor(of_each, device=device, dtype=torch.float64)
