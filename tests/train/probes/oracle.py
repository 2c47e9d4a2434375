"""What every probe must find, computed naively: one network, plain PyTorch, NumPy in float64.

A case is what the engine knows at a measured update, of one network: its weights before and after,
the gradients of the step. All else is computed here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.layers import dropout_source
from danlu.nn.protocols import has_sequence_loss, is_stateful
from danlu.nn.recurrent import Recurrent
from danlu.recipe import Recipe
from danlu.rng import stream
from danlu.train.probes.recurrent import DISTANCES

Tensors = dict[str, Tensor]
Array = np.ndarray[Any, Any]


@dataclass
class Case:
    """A measured update of one network; x, y: the sample, P examples of two halves."""

    recipe: Recipe
    model: nn.Module
    step: int
    x: Tensor
    y: Tensor
    before: Tensors
    after: Tensors
    gradient: Tensors
    """Of the step's loss, before penalties and clipping."""
    clipped: Tensors
    lr: float
    examples: float
    """The m of the penalties."""
    halves: list[Pass] = field(default_factory=list)

    def network(self, weights: Tensors) -> nn.Module:
        """A network with those weights, that overwrites nothing."""
        network = copy.deepcopy(self.model)
        network.load_state_dict(weights)
        for module in network.modules():
            if getattr(module, "inplace", False):
                module.inplace = False
        return network

    @property
    def size(self) -> int:
        """Examples of a half."""
        return len(self.x) // 2


@dataclass
class Pass:
    """A pass of a half: what layers gave, gradients by that, and by weights."""

    loss: float
    outputs: dict[str, Tensor]
    output_gradients: dict[str, Tensor]
    inputs: dict[str, Tensor]
    input_gradients: dict[str, Tensor]
    gradients: Tensors


def loss_of(network: nn.Module, recipe: Recipe, x: Tensor, y: Tensor, last_only: bool) -> Tensor:
    """The training loss, by PyTorch's own functions."""
    if has_sequence_loss(network):
        weights = torch.full((len(x),), 1.0, dtype=torch.float64)
        targets = (y >= 0).sum()
        y = y.clamp_min(0)
        loss, _ = network.sequence_loss(x, y, weights / targets)  # type: ignore[operator]
        return loss  # type: ignore[no-any-return]
    out = network(x)
    if is_stateful(network):
        out = out[0]
    if isinstance(out, tuple):  # auxiliary classifiers come behind
        own, *others = out
        losses = [F.cross_entropy(o, y) for o in others]
        pairs = zip(network.auxiliary_weights, losses, strict=True)  # type: ignore[arg-type]
        return F.cross_entropy(own, y) + sum(w * loss for w, loss in pairs)
    if not y.is_floating_point():
        out, y = out.flatten(0, -2), y.clone()
        if last_only and y.ndim == 2:
            for row in y:
                row[: int((row >= 0).nonzero()[-1])] = -1
        return F.cross_entropy(
            out, y.flatten(), ignore_index=-1, label_smoothing=_smoothing(recipe, out.shape[1])
        )
    return F.mse_loss(out[:, 0], y)


def _smoothing(recipe: Recipe, classes: int) -> float:
    # PyTorch gives ε/K to every class, the right one included.
    return recipe.loss.label_smoothing * classes / (classes - 1)


def passed(case: Case, network: nn.Module, x: Tensor, y: Tensor, last_only: bool = False) -> Pass:
    """Pass examples forward and backward in training mode."""
    outputs, inputs, calls = {}, {}, {}

    def on_output(name: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            key = name if calls[name] == 1 else f"{name}:{calls[name]}"
            first = out[0] if isinstance(out, tuple) else out
            if first.requires_grad:
                first.retain_grad()
                outputs[key] = first

        return hook

    def on_input(name: str) -> Any:
        def hook(module: nn.Module, args: Any) -> Any:
            key = name if name not in calls else f"{name}:{calls[name] + 1}"
            # Another layer may see it, too: of interest is what this one does with it.
            inputs[key] = args[0].clone()
            inputs[key].retain_grad()
            return (inputs[key], *args[1:])

        return hook

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, Recurrent):
            handles.append(module.register_forward_pre_hook(on_input(name)))
        if not list(module.children()):
            handles.append(module.register_forward_hook(on_output(name)))
    network.zero_grad()
    loss = loss_of(network, case.recipe, x, y, last_only)
    loss.backward()  # type: ignore[no-untyped-call]
    for handle in handles:
        handle.remove()
    return Pass(
        float(loss),
        {name: out.detach() for name, out in outputs.items()},
        {name: out.grad for name, out in outputs.items() if out.grad is not None},
        {name: x.detach() for name, x in inputs.items()},
        {name: x.grad for name, x in inputs.items() if x.grad is not None},
        {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None},
    )


def in_training(case: Case, weights: Tensors, halves: int, last_only: bool = False) -> list[Pass]:
    """Pass the first halves in turn, with the masks of the step."""
    network = case.network(weights).train()
    passes = []
    with dropout_source(stream(case.recipe.seed, "dropout", case.step)):
        for k in range(halves):
            some = slice(k * case.size, (k + 1) * case.size)
            passes.append(passed(case, network, case.x[some], case.y[some], last_only))
    return passes


def flat(tensors: Tensors) -> Array:
    """All values in a row, float64, in the order of their names."""
    return np.concatenate([tensors[name].double().numpy().ravel() for name in sorted(tensors)])


def weights_of(tensors: Tensors, like: Tensors) -> Tensors:
    """The trainable ones."""
    return {name: tensors[name] for name in like}


def matrices(tensors: Tensors) -> Tensors:
    """Those that penalties and decay act on."""
    return {name: t if t.ndim >= 2 else torch.zeros_like(t) for name, t in tensors.items()}


# -- of the network as a whole ---------------------------------------------------------------


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

# -- of a layer -------------------------------------------------------------------------------


def outputs(case: Case, layer: str) -> Array:
    """What the layer gave, both halves."""
    return np.concatenate([half.outputs[layer].numpy().ravel() for half in case.halves])


def module_of(case: Case, layer: str) -> nn.Module:
    return case.model.get_submodule(layer.partition(":")[0])


def dead(case: Case, layer: str) -> float:
    halves = [half.outputs[layer].numpy() for half in case.halves]
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
    return float((SLOPES[kind](outputs(case, layer)) < 0.1).mean())


def binned(case: Case, layer: str) -> Array:
    values = case.halves[0].outputs[layer].numpy().ravel()
    return values[:: -(-len(values) // 4096)]


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
        shares.append(float((slope < 0.1).mean()))
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
    "activation_mean": lambda c, layer: outputs(c, layer).mean(),
    "activation_rms": lambda c, layer: np.sqrt((outputs(c, layer) ** 2).mean()),
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
