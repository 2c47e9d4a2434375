"""Recurrent networks a second time, step by step and text by text, from the notes' formulas: no padding, no kernels.

Legend: H units; x [B, G·H] what the input brings to a step's gates, w [H, G·H], e [E, H], states h and c [B, H].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def step(name: str, x: Tensor, w: Tensor, e: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of a cell."""
    sigmoid, size = torch.sigmoid, h.shape[-1]
    if name.startswith("rnn"):
        return (torch.tanh if name == "rnn" else torch.relu)(x + h @ w), c
    if name.startswith("lstm"):
        update, forget, new, out = (x + h @ w).chunk(4, -1)
        if name == "lstm-peephole":
            update, forget = update + e[0] * c, forget + e[1] * c
        c = sigmoid(forget) * c + sigmoid(update) * torch.tanh(new)
        out = out + e[2] * c if name == "lstm-peephole" else out
        return sigmoid(out) * torch.tanh(c), c
    p = h @ w
    reset = sigmoid(x[:, :size] + p[:, :size])
    gate = sigmoid(x[:, size : 2 * size] + p[:, size : 2 * size])
    if name == "gru":  # the framework's: the gate says what stays
        new = torch.tanh(x[:, 2 * size :] + reset * (p[:, 2 * size :] + e[0]))
        return (1 - gate) * new + gate * h, c
    new = torch.tanh(
        x[:, 2 * size :] + (reset * h) @ w[:, 2 * size :]
    )  # the notes': Γᵣ before the product, Γᵤ what is new
    return (1 - gate) * h + gate * new, c


State = tuple[Tensor, Tensor]


def layer(
    name: str, t: dict[str, Tensor], at: str, x: Tensor, state: State | None = None
) -> tuple[Tensor, State]:
    """Outputs [T, H] of a layer in one direction for x [T, n], and its last state; weights in t under the name `at`."""
    gates = x @ t[f"{at}.weight_ih"].T + t[f"{at}.bias"]
    w = t[f"{at}.weight_hh"].T
    h, c = state or (x.new_zeros(1, len(w)),) * 2
    extra = t.get(f"{at}.extra", w).reshape(
        -1, len(w)
    )  # peepholes [3, H], or the inner bias [1, H] of a GRU
    out = []
    for g in gates:
        h, c = step(name, g[None], w, extra, h, c)
        out.append(h[0])
    return torch.stack(out), (h, c)


def reader(cells: tuple[str, ...], t: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """Logits [T, K] of a network's every token of one text [T]; in evaluation, so without dropout."""
    x = t["embedding.weight"][tokens]
    for k, cell in enumerate(cells):
        out, _ = layer(cell, t, f"layers.forwards.{k}", x)
        if f"layers.back.{k}.bias" in t:
            out = torch.cat([out, layer(cell, t, f"layers.back.{k}", x.flip(0))[0].flip(0)], 1)
        x = out
    return x @ t["output.weight"].T + t["output.bias"]


def translator(
    cells: tuple[str, ...], t: dict[str, Tensor], source: Tensor, target: Tensor
) -> Tensor:
    """Logits [T, K] of what follows each token of the target, whose first states are the source's last."""
    x, y = t["embedding.weight"][source], t["embedding.weight"][target]
    for k, cell in enumerate(cells):
        read, state = layer(cell, t, f"encoder.forwards.{k}", x)
        y, _ = layer(cell, t, f"decoder.forwards.{k}", y, state)
        if f"encoder.back.{k}.bias" in t:
            read = torch.cat([read, layer(cell, t, f"encoder.back.{k}", x.flip(0))[0].flip(0)], 1)
        x = read
    if "attention.keys.weight" in t:
        p = (y @ (x @ t["attention.keys.weight"].T).T).softmax(1)
        y = torch.tanh(
            torch.cat([p @ x, y], 1) @ t["attention.join.weight"].T + t["attention.join.bias"]
        )
    return y @ t["output.weight"].T + t["output.bias"]


def cell_fields(*cells: str) -> dict[str, Any]:
    """The recipe fields of a network with those cells."""
    names = tuple("gru" if cell == "gru-reset-before" else cell for cell in cells)
    return {"cell": names, "reset_after": False} if names != cells else {"cell": names}
