"""What probes of a network as a whole must find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from train.probes.oracle import (
    Array,
    Case,
    Pass,
    flat,
    in_training,
    matrices,
    passed,
    weights_of,
)

from danlu.nn.layers import dropout_source
from danlu.nn.protocols import is_stateful
from danlu.rng import stream


def evaluated(case: Case) -> tuple[Array, Array, int]:
    """Outputs [n, K] in evaluation mode, and targets [n], as arrays; without padding."""
    network = case.network(case.before).eval()
    with torch.no_grad():
        out = network(case.x)
    if is_stateful(network):
        out = out[0]
    if case.y.is_floating_point():
        return out.numpy(), case.y.numpy(), 1
    out, y = out.flatten(0, -2).numpy(), case.y.flatten().numpy()
    return out[y >= 0], y[y >= 0], out.shape[1]


def losses(case: Case) -> Array:
    out, y, _ = evaluated(case)
    if case.y.is_floating_point():
        return (out[:, 0] - y) ** 2  # type: ignore[no-any-return]
    log_p = out - np.log(np.exp(out).sum(1, keepdims=True))
    return -log_p[np.arange(len(y)), y]  # type: ignore[no-any-return]


def sample_loss(case: Case) -> float:
    out, _, classes = evaluated(case)
    own = losses(case)
    eps = case.recipe.loss.label_smoothing
    if not eps:
        return float(own.mean())
    log_p = out - np.log(np.exp(out).sum(1, keepdims=True))
    others = -(log_p.sum(1) + own) / (classes - 1)
    return float(((1 - eps) * own + eps * others).mean())


def sample_accuracy(case: Case) -> float:
    out, y, _ = evaluated(case)
    if case.y.is_floating_point():
        return 1 - sample_loss(case)
    return float((out.argmax(1) == y).mean())


def by_class(case: Case, values: Array) -> list[float]:
    _, y, classes = evaluated(case)
    return [float(values[y == k].mean()) if (y == k).any() else np.nan for k in range(classes)]


def class_losses(case: Case) -> list[float]:
    return by_class(case, losses(case))


def class_accuracies(case: Case) -> list[float]:
    out, y, _ = evaluated(case)
    return by_class(case, (out.argmax(1) == y).astype(float))


def gradient_noise(case: Case) -> float:
    a, b = (flat(half.gradients) for half in case.halves)
    b_small, b_big = case.size, 2 * case.size
    small, big = (a @ a + b @ b) / 2, ((a + b) / 2) @ ((a + b) / 2)
    square = (b_big * big - b_small * small) / (b_big - b_small)
    trace = (small - big) / (1 / b_small - 1 / b_big)
    return float(trace / square) if square > 0 else np.inf


def penalty_gradient(case: Case) -> Array:
    w = flat(matrices(weights_of(case.before, case.gradient)))
    p = case.recipe.penalty
    return (p.l2 * w + p.l1 / 2 * w / np.sqrt(w**2 + p.eps)) / case.examples  # type: ignore[no-any-return]


def penalty_share(case: Case) -> float:
    p, g = np.linalg.norm(penalty_gradient(case)), np.linalg.norm(flat(case.gradient))
    return float(p / (p + g))


def update_of(case: Case) -> Array:
    after, before = (weights_of(t, case.gradient) for t in (case.after, case.before))
    return flat(after) - flat(before)  # type: ignore[no-any-return]


def decay_share(case: Case) -> float:
    w = flat(matrices(weights_of(case.before, case.gradient)))
    d = np.linalg.norm(case.lr * (case.recipe.optimizer.weight_decay or 0) * w)
    return float(d / (d + np.linalg.norm(update_of(case))))


def clip_factor(case: Case) -> float:
    penalised = flat(case.gradient) + penalty_gradient(case)
    return float(np.linalg.norm(flat(case.clipped)) / np.linalg.norm(penalised))


def after_update(case: Case) -> Pass:
    """The first half after the update; running statistics as they were after the step."""
    return in_training(case, case.after, 1)[0]


def gradient_cosine(case: Case) -> float:
    a, b = flat(case.halves[0].gradients), flat(after_update(case).gradients)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def progress(case: Case) -> float:
    promised = -flat(case.halves[0].gradients) @ update_of(case)
    gained = case.halves[0].loss - after_update(case).loss
    return float(gained / promised) if promised > 0 else np.nan


def sharpness(case: Case) -> float:
    """The largest eigenvalue of the whole Hessian, by autograd."""
    network = case.network(case.before).train()
    parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
    shapes = {n: p.shape for n, p in parameters.items()}
    start = torch.cat([p.detach().flatten() for p in parameters.values()])
    x, y = case.x[: case.size], case.y[: case.size]

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([s.numel() for s in shapes.values()])
        tensors = {n: p.view(s) for (n, s), p in zip(shapes.items(), pieces, strict=True)}
        source = stream(case.recipe.seed, "dropout", case.step)
        with dropout_source(source):
            out = torch.func.functional_call(network, tensors, (x,))
        return F.cross_entropy(out, y)

    hessian = torch.autograd.functional.hessian(loss, start)
    values = np.linalg.eigvalsh(hessian.numpy())
    return float(values[np.abs(values).argmax()])


def gradient_spread(case: Case) -> float:
    """tr Σ/‖G‖² from the first sixteen examples' gradients."""
    network = case.network(case.before).train()
    gradients = []
    with dropout_source(stream(case.recipe.seed, "dropout", case.step)):
        for k in range(min(16, case.size)):
            found = passed(case, network, case.x[k : k + 1], case.y[k : k + 1])
            gradients.append(flat(found.gradients))
    g = np.stack(gradients)
    trace = g.var(0, ddof=1).sum()
    square = (g.mean(0) ** 2).sum() - trace / len(g)
    return float(trace / square) if square > 0 else np.inf


OF_NETWORK: dict[str, Callable[[Case], Any]] = {
    "sample_loss": sample_loss,
    "sample_accuracy": sample_accuracy,
    "sample_loss_training": lambda c: np.mean([half.loss for half in c.halves]),
    "class_losses": class_losses,
    "class_accuracies": class_accuracies,
    "gradient_norm": lambda c: np.linalg.norm(flat(c.gradient)),
    "penalty_share": penalty_share,
    "decay_share": decay_share,
    "clip_factor": clip_factor,
    "update_norm": lambda c: np.linalg.norm(update_of(c)),
    "gradient_noise": gradient_noise,
    "gradient_cosine": gradient_cosine,
    "progress": progress,
    "sharpness": sharpness,
    "gradient_spread": gradient_spread,
}
