"""What a network is made of: shapes by the size formulas, parameters, receptive field, cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from danlu.errors import ModelError, reason_of
from danlu.models.encoder_decoder import EncoderDecoder
from danlu.models.recurrent import RecurrentNet
from danlu.models.sizes import pair, window
from danlu.nn.layers import Dropout, ExplicitLinear, PHMLinear
from danlu.nn.recurrent import Recurrent

_WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
_SAME_SHAPE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.LayerNorm,
    nn.GELU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Identity,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    Dropout,
)


@dataclass(frozen=True)
class LayerSummary:
    """One layer.

    by_formula: the output's shape that the size formulas predict, None where none applies;
    output: the shape that flowed.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    by_formula: tuple[int, ...] | None
    parameters: int
    receptive_field: int | None
    multiply_adds: int


@dataclass
class _Walk:
    """The receptive field r and the jump j of every tensor that a forward pass makes.

    The jump is the distance, in input pixels, between neighbouring outputs.
    """

    reach: dict[int, tuple[int, int]] = field(default_factory=dict)  # (r, j) by the tensor's id
    alive: list[Tensor] = field(default_factory=list)  # so that no id is given twice
    rows: list[LayerSummary] = field(default_factory=list)

    def reach_of(self, x: Tensor) -> tuple[int, int]:
        """Return (r, j) of a tensor.

        One that no layer made, such as a sum of branches, has those of the longest path so far.
        """
        if id(x) not in self.reach:
            longest = max(self.reach.values(), default=(1, 1))
            self.remember(x, longest)
        return self.reach[id(x)]

    def remember(self, x: Tensor, reach: tuple[int, int]) -> None:
        """Keep what a tensor sees."""
        self.reach[id(x)] = reach
        self.alive.append(x)


def predict(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the output shape (without the batch) by formula; None where none applies."""
    if isinstance(layer, _WINDOWED):
        return _windowed_shape(layer, shape)
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        height, width = pair(layer.output_size)
        return (shape[0], height, width)
    if isinstance(layer, nn.Linear):
        return (*shape[:-1], layer.out_features)
    if isinstance(layer, Recurrent):
        return (shape[0], layer.hidden)
    if isinstance(layer, (ExplicitLinear, PHMLinear)):
        return (layer.bias.numel(),)
    if isinstance(layer, nn.Flatten):
        return (math.prod(shape),)
    if isinstance(layer, _SAME_SHAPE):
        return shape
    return None


def _windowed_shape(layer: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    channels, *sides = shape
    if isinstance(layer, nn.Conv2d):
        # The formula knows neither "same" nor holes in a window.
        if isinstance(layer.padding, str) or layer.dilation != (1, 1):
            return None
        channels = layer.out_channels
    f = pair(layer.kernel_size)
    stride = pair(layer.stride)
    padding = pair(layer.padding)
    rounds_up = getattr(layer, "ceil_mode", False)
    outputs = []
    for i, n in enumerate(sides):
        rounding = stride[i] - 1 if rounds_up else 0
        outputs.append(window(n + rounding, f[i], stride[i], padding[i]))
    return (channels, *outputs)


def _multiply_adds(layer: nn.Module, out: tuple[int, ...]) -> int:
    """Return the multiply-adds of a layer for one example; out: the shape of its output."""
    if isinstance(layer, nn.Conv2d):
        of_each_output = layer.weight[0].numel()
        return math.prod(out) * of_each_output
    if isinstance(layer, (nn.Linear, ExplicitLinear)):
        positions = math.prod(out[:-1])
        return positions * layer.weight.numel()
    if isinstance(layer, Recurrent):
        steps = out[0] if len(out) > 1 else 0
        of_each_step = layer.weight_ih.numel() + layer.weight_hh.numel()
        return steps * of_each_step
    if isinstance(layer, PHMLinear):
        return layer.parts.numel() * layer.n + layer.n**2 * layer.q
    return 0


def _example_shape(x: Tensor, steps_first: bool) -> tuple[int, ...]:
    """Return the shape of one example; recurrent networks have steps [T, B, …] first."""
    if steps_first and x.ndim > 2:
        steps, _, *rest = x.shape
        return (steps, *rest)
    return tuple(x.shape[1:])


def summarise(model: nn.Module, input_shape: tuple[int, ...]) -> list[LayerSummary]:
    """Return one row per layer, in the order data pass through.

    From a forward pass of one zero example. Layers that are used in training alone, such as
    auxiliary classifiers, have rows, too. Raises ModelError when the network cannot take the input.
    """
    walk = _Walk()
    reads_text = isinstance(model, (RecurrentNet, EncoderDecoder))

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def observe(layer: nn.Module, args: Any, out: Any) -> None:
            if isinstance(layer, Recurrent):
                out = out[0]
            if isinstance(out, Tensor) and args and isinstance(args[0], Tensor):
                walk.rows.append(_summary_of(walk, name, layer, args[0], out, reads_text))

        return observe

    hooks = []
    for path, layer in model.named_modules():
        is_leaf = not list(layer.children())
        if is_leaf:
            hooks.append(layer.register_forward_hook(watch(path)))
    was_training = model.training
    try:
        with torch.no_grad():
            _pass_an_example(model, input_shape, reads_text)
    except (RuntimeError, ValueError, IndexError) as e:
        shape = "×".join(map(str, input_shape))
        raise ModelError(f"the network cannot take an input of {shape}: {reason_of(e)}") from e
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return walk.rows


def _pass_an_example(model: nn.Module, input_shape: tuple[int, ...], reads_text: bool) -> None:
    model.eval()
    # The whole trains, its layers do not: auxiliary classifiers have a say, but nothing is drawn
    # or counted.
    model.training = True
    parameter = next(model.parameters())
    dtype = torch.long if reads_text else parameter.dtype
    model(torch.ones(1, *input_shape, dtype=dtype, device=parameter.device))


def _summary_of(
    walk: _Walk,
    name: str,
    layer: nn.Module,
    x: Tensor,
    out: Tensor,
    steps_first: bool,
) -> LayerSummary:
    before = _example_shape(x, steps_first)
    after = _example_shape(out, steps_first)
    receptive_field, jump = walk.reach_of(x)
    if isinstance(layer, _WINDOWED):
        kernel, _ = pair(layer.kernel_size)
        stride, _ = pair(layer.stride)
        receptive_field += (kernel - 1) * jump
        jump *= stride
    walk.remember(out, (receptive_field, jump))
    # Past a global average every output sees everything.
    has_field = len(after) == 3 and not isinstance(layer, nn.AdaptiveAvgPool2d)
    return LayerSummary(
        name,
        type(layer).__name__,
        after,
        predict(layer, before),
        parameters=sum(p.numel() for p in layer.parameters()),
        receptive_field=receptive_field if has_field else None,
        multiply_adds=_multiply_adds(layer, after),
    )


def multiply_adds(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the multiply-adds of one example's forward pass (dense and convolutional layers)."""
    return sum(row.multiply_adds for row in summarise(model, input_shape))
