"""Where a unit is saturated: its slope is less than a tenth of the largest.

Legend: M networks, T steps, B examples, H units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from danlu.nn.cells import CELLS
from danlu.nn.recurrent import Recurrent
from danlu.train.forward import Stack

_SLOPE = 0.1  # of the largest one
# σ′ = σ(1 − σ) is at most 1/4; tanh′ = 1 − tanh² is at most 1.
_SIGMOID_MARGIN = (1 - math.sqrt(1 - _SLOPE)) / 2
_TANH_LIMIT = math.sqrt(1 - _SLOPE)

IsSaturated = Callable[[Any, Tensor], Tensor]  # of a module, by what it gives


def sigmoid_is_saturated(out: Tensor) -> Tensor:
    """Return where a sigmoid's output is near 0 or 1."""
    return (out - 0.5).abs() > 0.5 - _SIGMOID_MARGIN


def tanh_is_saturated(out: Tensor) -> Tensor:
    """Return where a tanh's output is near −1 or 1."""
    return out.abs() > _TANH_LIMIT


SATURATION: dict[type[nn.Module], IsSaturated] = {
    nn.Sigmoid: lambda module, out: sigmoid_is_saturated(out),
    nn.Tanh: lambda module, out: tanh_is_saturated(out),
    # The slope below 0 is what is left to −α.
    nn.ELU: lambda module, out: out < -module.alpha * (1 - _SLOPE),
    nn.SELU: lambda module, out: out < -1.7580993408473766 * (1 - _SLOPE),
    nn.Hardtanh: lambda module, out: (out <= module.min_val) | (out >= module.max_val),
    nn.Hardsigmoid: lambda module, out: (out <= 0) | (out >= 1),
    nn.ReLU6: lambda module, out: out >= module.max_val,
}
# Layers whose units may be zero for every example, and then learn nothing.
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Threshold, nn.Hardswish)


def gates_saturated(
    name: str, module: Recurrent, x: Tensor, stack: Stack, lengths: Tensor | None
) -> Tensor:
    """Return the share of saturated values of each gate of a recurrent layer [M, G].

    x [M, T, B, n]: what the layer sees. lengths [M, B]: tokens of each example, behind which
    nothing counts; None where all do. The new state (tanh) is among the gates, in the order of
    `danlu.nn.cells`.
    """
    row = CELLS[module.cell]
    tensors = stack.tensors
    w_ih, w_hh = tensors[f"{name}.weight_ih"], tensors[f"{name}.weight_hh"]
    bias = tensors[f"{name}.bias"]
    x = x.to(w_ih.dtype)
    gates_in = torch.einsum("mtbn,mgn->tmbg", x, w_ih) + bias.unsqueeze(1)
    steps, members, examples, _ = gates_in.shape
    h = gates_in.new_zeros(steps + 1, members, examples, module.hidden)
    extra = gates_in.new_zeros(members, 0, module.hidden)
    if row.extras:
        extra = tensors[f"{name}.extra"].view(members, row.extras, module.hidden)
    c = torch.zeros_like(h) if row.memory else gates_in.new_zeros(0)
    saved = row.forward(gates_in.contiguous(), w_hh.mT.contiguous(), extra, h, c)
    # A plain cell's only gate is its state.
    gates = saved[0] if saved else h[1:]
    known = torch.ones(steps, 1, 1, dtype=torch.bool, device=x.device)
    if lengths is not None:
        known = torch.arange(steps, device=x.device).view(-1, 1, 1) < lengths  # [T, M, B]
    known = known.expand(steps, members, examples).to(torch.float64)
    saturated = []
    for k, gate in enumerate(gates.chunk(row.gates, -1)):
        if k == _NEW_STATE[row.gates]:
            is_saturated = (
                torch.zeros_like(gate) if module.cell == "rnn-relu" else tanh_is_saturated(gate)
            )
        else:
            is_saturated = sigmoid_is_saturated(gate)
        share = is_saturated.to(torch.float64).mean(3)  # [T, M, B]
        saturated.append((share * known).sum((0, 2)) / known.sum((0, 2)))
    return torch.stack(saturated, 1)


# Which of a cell's gates is its new state, by how many gates it has: tanh, where others are σ.
_NEW_STATE = {1: 0, 3: 2, 4: 2}
MOST_GATES = max(cell.gates for cell in CELLS.values())
