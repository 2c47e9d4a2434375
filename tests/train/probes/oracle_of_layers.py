"""What probes of a layer must find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from train.probes.oracle import Array, Case, Tensors, flat, in_training

from danlu.nn.protocols import has_sequence_loss
from danlu.train.probes.recurrent import DISTANCES


def is_known(case: Case, layer: str, k: int) -> Array:
    """Which outputs of a half are not those of padding, in their shape."""
    out = case.halves[k].outputs[layer].numpy()
    known = (case.x[k * case.size : (k + 1) * case.size] != 0).numpy()  # [B, T]
    is_text = case.x.ndim == 2 and not case.x.is_floating_point()
    if not is_text or out.ndim != 3:
        return np.ones(out.shape, bool)
    # The layers of danlu's own networks give [T, B, n].
    return np.broadcast_to(known.T[:, :, None], out.shape)


def outputs(case: Case, layer: str) -> list[Array]:
    """What the layer gave for each half, but for padding."""
    found = []
    for k, half in enumerate(case.halves):
        found.append(half.outputs[layer].numpy()[is_known(case, layer, k)])
    return found


def mean(halves: list[Array]) -> float:
    """The mean over both halves, which count alike."""
    return float(np.mean([half.mean() for half in halves]))


def module_of(case: Case, layer: str) -> nn.Module:
    return case.model.get_submodule(layer.partition(":")[0])


def dead(case: Case, layer: str) -> float:
    halves = []
    for k, half in enumerate(case.halves):
        halves.append(np.where(is_known(case, layer, k), half.outputs[layer].numpy(), 0))
    axis = 2 if halves[0].ndim == 3 else 1
    units = [np.moveaxis(half, axis, 0).reshape(half.shape[axis], -1) for half in halves]
    return float((np.concatenate(units, 1) == 0).all(1).mean())


SLOPES: dict[str, Callable[[Array], Array]] = {
    "Sigmoid": lambda out: 4 * out * (1 - out),
    "Tanh": lambda out: 1 - out**2,
    "ELU": lambda out: np.where(out < 0, out + 1, 1),
}


def saturated(case: Case, layer: str) -> float:
    kind = type(module_of(case, layer)).__name__
    return mean([SLOPES[kind](half) < 0.1 for half in outputs(case, layer)])


def binned(case: Case, layer: str) -> Array:
    values = case.halves[0].outputs[layer].numpy().ravel()
    every = -(-len(values) // 4096)
    return values[::every][is_known(case, layer, 0).ravel()[::every]]


def output_gradient(case: Case, layer: str) -> float:
    total = 0.0  # over examples, of the square of each one's own gradient
    for half in case.halves:
        g = half.output_gradients[layer].numpy() * case.size
        total += (g**2).sum()
    return float(np.sqrt(total / len(case.x)))


def own_parameters(case: Case, layer: str, tensors: Tensors) -> Array:
    """The layer's weights, or where it has none its biases and scales."""
    own = {n: tensors[n] for n in case.gradient if (n.rpartition(".")[0] or n) == layer}
    heavy = {n: t for n, t in own.items() if t.ndim >= 2}
    return flat(heavy or own)


def update_ratio(case: Case, layer: str) -> float:
    w = own_parameters(case, layer, case.before)
    step = own_parameters(case, layer, case.after) - w
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.linalg.norm(step) / np.linalg.norm(w))


def gates_saturated(case: Case, layer: str) -> list[float]:
    """Step by step, by the formulas of the notes and of PyTorch's manual."""
    module = case.model.get_submodule(layer)
    own = {n: t for n, t in case.before.items() if n.startswith(layer + ".")}
    state = {n.rpartition(".")[2]: t.double() for n, t in own.items()}
    x = case.halves[0].inputs[layer]
    steps, examples, _ = x.shape
    size = module.hidden  # type: ignore[assignment]
    h = torch.zeros(examples, size, dtype=torch.float64)  # type: ignore[call-overload]
    c = h.clone()
    kept: list[list[Tensor]] = []
    for t in range(steps):
        from_x = x[t] @ state["weight_ih"].T + state["bias"]
        from_h = h @ state["weight_hh"].T
        if module.cell == "rnn":
            h = torch.tanh(from_x + from_h)
            kept.append([h])
        elif module.cell == "gru":
            x_r, x_z, x_n = from_x.chunk(3, 1)
            h_r, h_z, h_n = from_h.chunk(3, 1)
            r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
            n = torch.tanh(x_n + r * (h_n + state["extra"]))
            h = (1 - z) * n + z * h
            kept.append([r, z, n])
        else:
            i, f, g, o = (from_x + from_h).chunk(4, 1)
            i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
            c = f * c + i * g
            h = o * torch.tanh(c)
            kept.append([i, f, g, o])
    shares = []
    for k, gate in enumerate(zip(*kept, strict=True)):
        values = torch.stack(gate).numpy()
        is_tanh = k == {1: 0, 3: 2, 4: 2}[len(kept[0])]
        slope = SLOPES["Tanh" if is_tanh else "Sigmoid"](values)
        known = np.broadcast_to((case.x[:examples] != 0).numpy().T[:, :, None], slope.shape)
        shares.append(float((slope < 0.1)[known].mean()))
    return shares


def gradient_by_distance(case: Case, layer: str) -> list[float] | None:
    """The norm of each example's own gradient, so many tokens before its last."""
    if ".back." in layer:
        return None
    by_token = case.y.ndim == 2 and not has_sequence_loss(case.model)
    few = replace(case, x=case.x[: 2 * 16], y=case.y[: 2 * 16])
    half = in_training(few, case.before, 1, last_only=by_token)[0]
    g = half.input_gradients[layer].numpy() * 16  # [T, B, n]
    lengths = (case.x[:16] != 0).sum(1).numpy()
    found = []
    for distance in DISTANCES:
        norms = []
        for b, length in enumerate(lengths):
            if length - 1 - distance >= 0:
                row = g[length - 1 - distance, b]
                norms.append(row @ row)
        found.append(float(np.sqrt(np.mean(norms))) if norms else np.nan)
    while found and np.isnan(found[-1]):
        found.pop()
    return found


OF_LAYER: dict[str, Callable[[Case, str], Any]] = {
    "activation_mean": lambda c, layer: mean(outputs(c, layer)),
    "activation_rms": lambda c, layer: np.sqrt(mean([half**2 for half in outputs(c, layer)])),
    "dead": dead,
    "saturated": saturated,
    "histogram_low": lambda c, layer: binned(c, layer).min(),
    "histogram_high": lambda c, layer: binned(c, layer).max(),
    "histogram": lambda c, layer: np.histogram(binned(c, layer), 20)[0],
    "output_gradient": output_gradient,
    "weight_norm": lambda c, layer: np.linalg.norm(own_parameters(c, layer, c.before)),
    "weight_gradient": lambda c, layer: np.linalg.norm(own_parameters(c, layer, c.gradient)),
    "weight_gradient_zeros": lambda c, layer: (own_parameters(c, layer, c.gradient) == 0).mean(),
    "update_ratio": update_ratio,
    "gates_saturated": gates_saturated,
    "gradient_by_distance": gradient_by_distance,
}
