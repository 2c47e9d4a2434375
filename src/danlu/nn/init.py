"""Initial values of weights, by their fan-in n and fan-out q.

Every parameter draws from its own named stream, so its values do not depend on what else the model
holds. Legend: q outputs, n inputs of one unit (a convolution's n is channels × kernel area).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from danlu.nn.protocols import DrawsOwnWeights, ResetsWeights
from danlu.rng import stream

Shape = tuple[int, ...]
Draw = Callable[[Shape, int, int, float, torch.Generator], Tensor]


def _randn(shape: Shape, g: torch.Generator) -> Tensor:
    # In float64, so that a draw does not depend on the weights' precision.
    return torch.randn(shape, generator=g, dtype=torch.float64)


def _rand_symmetric(shape: Shape, g: torch.Generator) -> Tensor:
    """U(−1, 1)."""
    unit = torch.rand(shape, generator=g, dtype=torch.float64)
    return unit * 2 - 1


def normal(shape: Shape, n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """N(0, std²)."""
    return std * _randn(shape, g)


def uniform(shape: Shape, n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """U(−r, r) with r = √3·std, so that its standard deviation is std."""
    half_width = math.sqrt(3) * std
    return half_width * _rand_symmetric(shape, g)


def xavier(shape: Shape, n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """N(0, 1/n): for sigmoid and tanh."""
    return _randn(shape, g) / math.sqrt(n)


def glorot(shape: Shape, n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """N(0, 2/(n + q)) (Glorot and Bengio 2010, eq. 12)."""
    std = math.sqrt(2 / (n + q))
    return std * _randn(shape, g)


def he(shape: Shape, n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """N(0, 2/n): for ReLU (He et al. 2015, eq. 10)."""
    std = math.sqrt(2 / n)
    return std * _randn(shape, g)


def torch_default(shape: Shape, n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """U(−1/√n, 1/√n): what PyTorch's own layers start from."""
    return _rand_symmetric(shape, g) / math.sqrt(n)


def orthogonal(shape: Shape, n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """W Wᵀ = I (or WᵀW = I when tall): U Vᵀ of the SVD of a Gaussian matrix (Saxe et al. 2014)."""
    rows = shape[0]
    columns = math.prod(shape[1:])
    gaussian = _randn((rows, columns), g)  # [q, n]
    # QR would be cheaper, but its signs are not uniform unless they are mended.
    u, _, v = torch.linalg.svd(gaussian, full_matrices=False)
    return torch.matmul(u, v).view(shape)


def zeros(shape: Shape, n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """All 0: no unit can come to differ from another (shown in teaching, never chosen)."""
    return torch.zeros(shape, dtype=torch.float64)


INITS: dict[str, Draw] = {
    "normal": normal,
    "uniform": uniform,
    "xavier": xavier,
    "glorot": glorot,
    "he": he,
    "orthogonal": orthogonal,
    "torch": torch_default,
    "zeros": zeros,
}
USES_STD = ("normal", "uniform")
BY_ACTIVATION = {
    "relu": "he",
    "leaky-relu": "he",
    "elu": "he",
    # 1/n is what SELU's fixed point is derived for (Klambauer et al. 2017).
    "selu": "xavier",
    "gelu": "he",
    "sigmoid": "xavier",
    "tanh": "xavier",
    "identity": "xavier",
}


def fans(shape: Shape) -> tuple[int, int]:
    """Return (n, q) of a weight [q, n, *kernel]."""
    outputs, inputs, *kernel = shape
    area = math.prod(kernel)
    return inputs * area, outputs * area


def plan(model: nn.Module, name: str, activation: str) -> list[tuple[str, nn.Module, str]]:
    """Return (layer's name, layer, rule) for each layer with a weight matrix or kernel, in order.

    name "auto" follows the activation: He for the ReLU family, Xavier otherwise and before the
    output. Layers that reset their own weights are left out.
    """
    matrices = []
    for path, layer in model.named_modules():
        if _has_weight_matrix(layer) and not isinstance(layer, ResetsWeights):
            matrices.append((path, layer))

    planned = []
    for i, (path, layer) in enumerate(matrices):
        is_output = i == len(matrices) - 1
        if name != "auto":
            rule = name
        elif is_output:
            # Nothing squashes the output, so its variance is to stay 1.
            rule = BY_ACTIVATION["identity"]
        else:
            rule = BY_ACTIVATION[activation]
        planned.append((path, layer, rule))
    return planned


def _has_weight_matrix(layer: nn.Module) -> bool:
    weight = getattr(layer, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.ndim >= 2


@torch.no_grad()
def initialise(
    model: nn.Module,
    name: str,
    activation: str,
    std: float,
    bias: float,
    seed: int,
) -> None:
    """Fill weights by the named rule, biases with a constant.

    Normalisation layers keep γ = 1, β = 0.
    """
    for path, layer, rule in plan(model, name, activation):
        assert isinstance(layer.weight, nn.Parameter)
        _draw_into(layer.weight, rule, std, seed, f"{path}.weight")
        layer_bias = getattr(layer, "bias", None)
        if isinstance(layer_bias, nn.Parameter):
            layer_bias.fill_(bias)

    for path, layer in model.named_modules():
        if isinstance(layer, DrawsOwnWeights):
            layer.initialise(_streams_of(seed, path))
        if isinstance(layer, ResetsWeights):
            layer.reset_weights(_filler(path, name, std, seed), bias)


def _draw_into(weight: Tensor, rule: str, std: float, seed: int, path: str) -> None:
    """Fill a weight by a named rule, from the stream of its path."""
    shape = tuple(weight.shape)
    n, q = fans(shape)
    # By its path: what else the network holds moves no draw.
    generator = stream(seed, "init", path.lstrip("."))
    draw = INITS[rule]
    values = draw(shape, n, q, std, generator)
    weight.copy_(values)


def _filler(path: str, name: str, std: float, seed: int) -> Callable[[str, Tensor, str], None]:
    """Return what a layer that resets its own weights calls for each part."""

    def fill(part: str, weight: Tensor, rule: str) -> None:
        place = f"{path}.{part}"
        if name != "auto":
            _draw_into(weight, name, std, seed, place)
        elif rule == "unit":
            _draw_into(weight, "normal", 1.0, seed, place)
        else:
            _draw_into(weight, rule, 1.0, seed, place)

    return fill


def _streams_of(seed: int, path: str) -> Callable[[str], torch.Generator]:
    """Return a function from a parameter's name to its stream."""

    def stream_of(part: str) -> torch.Generator:
        name = f"{path}.{part}".lstrip(".")
        return stream(seed, "init", name)

    return stream_of
