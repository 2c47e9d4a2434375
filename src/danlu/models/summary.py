"""What a network is made of: shapes by the size formulas, parameters, receptive field, multiply-adds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from danlu.errors import ModelError
from danlu.models.sizes import pair, window
from danlu.nn.layers import ExplicitLinear, Dropout, PHMLinear
from danlu.nn.recurrent import Recurrent


@dataclass(frozen=True)
class Row:
    """One layer. `by_formula` is what the size formulas predict, None where none applies; `output` is what flowed."""

    name: str
    kind: str
    output: tuple[int, ...]
    by_formula: tuple[int, ...] | None
    parameters: int
    receptive_field: int | None
    multiply_adds: int


@dataclass
class _Walk:
    """Receptive field r and jump j (input pixels between neighbouring outputs) of every tensor met."""

    reach: dict[int, tuple[int, int]] = field(default_factory=dict)  # (r, j) by the tensor's id
    alive: list[Tensor] = field(default_factory=list)  # so that no id is given twice
    rows: list[Row] = field(default_factory=list)

    def of(self, x: Tensor) -> tuple[int, int]:
        """(r, j) of a tensor; of one that no layer made, such as a sum of branches, those of the longest way so far."""
        if id(x) not in self.reach:
            self.met(x, max(self.reach.values(), default=(1, 1)))
        return self.reach[id(x)]

    def met(self, x: Tensor, reach: tuple[int, int]) -> None:
        """Keep what a tensor sees."""
        self.reach[id(x)] = reach
        self.alive.append(x)


def predict(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The output shape (without the batch) by formula."""
    if isinstance(layer, nn.Conv2d) and (
        isinstance(layer.padding, str) or layer.dilation != (1, 1)
    ):
        return None
    if isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
        f, s, p = pair(layer.kernel_size), pair(layer.stride), pair(layer.padding)
        c = layer.out_channels if isinstance(layer, nn.Conv2d) else shape[0]
        up = [
            s[i] - 1 if getattr(layer, "ceil_mode", False) else 0 for i in (0, 1)
        ]  # rounded up instead of down
        return (c, *(window(n + up[i], f[i], s[i], p[i]) for i, n in enumerate(shape[1:])))
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return (shape[0], *pair(layer.output_size))
    if isinstance(layer, nn.Linear):
        return (*shape[:-1], layer.out_features)
    if isinstance(layer, Recurrent):
        return (shape[0], layer.hidden)
    if isinstance(layer, (ExplicitLinear, PHMLinear)):
        return (layer.bias.numel(),)
    if isinstance(layer, nn.Flatten):
        return (math.prod(shape),)
    same = (
        nn.ReLU,
        nn.LeakyReLU,
        nn.ELU,
        nn.GELU,
        nn.Sigmoid,
        nn.Tanh,
        nn.Identity,
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        Dropout,
    )
    return shape if isinstance(layer, same) else None


def _multiply_adds(layer: nn.Module, shape: tuple[int, ...], out: tuple[int, ...]) -> int:
    if isinstance(layer, nn.Conv2d):
        return math.prod(out) * layer.weight[0].numel()
    if isinstance(layer, (nn.Linear, ExplicitLinear)):
        return math.prod(out[:-1]) * layer.weight.numel()
    if isinstance(layer, Recurrent):
        return out[0] * (layer.weight_ih.numel() + layer.weight_hh.numel()) if len(out) > 1 else 0
    if isinstance(layer, PHMLinear):
        return layer.parts.numel() * layer.n + layer.n**2 * layer.q
    return 0


def _shape(x: Tensor, steps_first: bool) -> tuple[int, ...]:
    """The shape of one example; recurrent networks have steps [T, B, …] first."""
    return (len(x), *x.shape[2:]) if steps_first and x.ndim > 2 else tuple(x.shape[1:])


def summarise(model: nn.Module, input_shape: tuple[int, ...]) -> list[Row]:
    """One row per layer, in the order data pass through, from a forward pass of one zero example.

    Layers that are used in training alone, such as auxiliary classifiers, have rows, too.
    """
    walk = _Walk()

    def see(name: str, layer: nn.Module, args: Any, out: Any) -> None:
        if isinstance(layer, Recurrent):
            out = out[0]
        if not isinstance(out, Tensor) or not args or not isinstance(args[0], Tensor):
            return  # a layer of tuples (a recurrent one, say) has no row
        before, after = (_shape(t, hasattr(model, "reading")) for t in (args[0], out))
        r, j = walk.of(args[0])
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            r, j = r + (pair(layer.kernel_size)[0] - 1) * j, j * pair(layer.stride)[0]
        walk.met(out, (r, j))
        count = sum(p.numel() for p in layer.parameters())
        seen = None if len(after) != 3 or isinstance(layer, nn.AdaptiveAvgPool2d) else r
        walk.rows.append(
            Row(
                name,
                type(layer).__name__,
                after,
                predict(layer, before),
                count,
                seen,
                _multiply_adds(layer, before, after),
            )
        )

    leaves = [(k, m) for k, m in model.named_modules() if not list(m.children())]
    hooks = [m.register_forward_hook(lambda m, a, o, k=k: see(k, m, a, o)) for k, m in leaves]
    was = model.training
    try:
        with torch.no_grad():
            model.eval()
            model.training = True  # the whole, not its layers: auxiliary classifiers speak, but nothing is drawn or counted
            reads = hasattr(model, "reading")
            p = next(model.parameters())
            model(
                torch.ones(1, *input_shape, dtype=torch.long if reads else p.dtype, device=p.device)
            )
    except (RuntimeError, ValueError, IndexError) as e:
        shape = "×".join(map(str, input_shape))
        raise ModelError(
            f"the network cannot take an input of {shape}: {str(e).splitlines()[0]}"
        ) from e
    finally:
        model.train(was)
        for h in hooks:
            h.remove()
    return walk.rows


def multiply_adds(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-adds of one example's forward pass (dense and convolutional layers)."""
    return sum(r.multiply_adds for r in summarise(model, input_shape))
