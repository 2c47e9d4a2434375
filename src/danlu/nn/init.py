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

Draw = Callable[[tuple[int, ...], int, int, float, torch.Generator], Tensor]


def _randn(shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=g, dtype=torch.float64)


def _rand_symmetric(shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    """U(−1, 1)."""
    return torch.rand(shape, generator=g, dtype=torch.float64) * 2 - 1


def normal(shape: tuple[int, ...], n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """N(0, std²)."""
    return std * _randn(shape, g)


def uniform(shape: tuple[int, ...], n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """U(−r, r) with r = √3·std, so that its standard deviation is std."""
    return _rand_symmetric(shape, g) * (math.sqrt(3) * std)


def xavier(shape: tuple[int, ...], n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """N(0, 1/n): for sigmoid and tanh."""
    return _randn(shape, g) / math.sqrt(n)


def glorot(shape: tuple[int, ...], n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """N(0, 2/(n + q)) (Glorot and Bengio 2010, eq. 12)."""
    return _randn(shape, g) * math.sqrt(2 / (n + q))


def he(shape: tuple[int, ...], n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """N(0, 2/n): for ReLU (He et al. 2015, eq. 10)."""
    return _randn(shape, g) * math.sqrt(2 / n)


def torch_default(shape: tuple[int, ...], n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """U(−1/√n, 1/√n): what PyTorch's own layers start from."""
    return _rand_symmetric(shape, g) / math.sqrt(n)


def orthogonal(shape: tuple[int, ...], n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """W Wᵀ = I (or WᵀW = I when tall): U Vᵀ of the SVD of a Gaussian matrix (Saxe et al. 2014)."""
    gaussian = _randn((shape[0], math.prod(shape[1:])), g)
    u, _, v = torch.linalg.svd(gaussian, full_matrices=False)
    return torch.matmul(u, v).view(shape)


def zeros(shape: tuple[int, ...], n: int, q: int, std: float, g: torch.Generator) -> Tensor:
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
    "gelu": "he",
    "sigmoid": "xavier",
    "tanh": "xavier",
    "identity": "xavier",
}


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (n, q) of a weight [q, n, *kernel]."""
    area = math.prod(shape[2:])
    return shape[1] * area, shape[0] * area


def plan(model: nn.Module, name: str, activation: str) -> list[tuple[str, nn.Module, str]]:
    """Return (layer's name, layer, rule) for each layer with a weight matrix or kernel, in order.

    name "auto" follows the activation: He for the ReLU family, Xavier otherwise and before the
    output. Layers that reset their own weights are left out.
    """
    matrices = [
        (path, layer)
        for path, layer in model.named_modules()
        if _has_weight_matrix(layer) and not isinstance(layer, ResetsWeights)
    ]
    planned = []
    for i, (path, layer) in enumerate(matrices):
        follows = "identity" if i == len(matrices) - 1 else activation
        rule = BY_ACTIVATION[follows] if name == "auto" else name
        planned.append((path, layer, rule))
    return planned


def _has_weight_matrix(layer: nn.Module) -> bool:
    weight = getattr(layer, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.ndim >= 2


@torch.no_grad()
def initialise(
    model: nn.Module, name: str, activation: str, std: float, bias: float, seed: int
) -> None:
    """Fill weights by the named rule, biases with a constant.

    Normalisation layers keep γ = 1, β = 0.
    """

    def draw_into(weight: Tensor, rule: str, spread: float, path: str) -> None:
        shape = tuple(weight.shape)
        generator = stream(seed, "init", path.lstrip("."))
        weight.copy_(INITS[rule](shape, *fans(shape), spread, generator))

    for path, layer, rule in plan(model, name, activation):
        assert isinstance(layer.weight, nn.Parameter)
        draw_into(layer.weight, rule, std, f"{path}.weight")
        if isinstance(getattr(layer, "bias", None), nn.Parameter):
            layer.bias.fill_(bias)  # type: ignore[operator]

    for path, layer in model.named_modules():
        if isinstance(layer, DrawsOwnWeights):
            layer.initialise(_streams_of(seed, path))
        if isinstance(layer, ResetsWeights):

            def fill(part: str, weight: Tensor, rule: str, path: str = path) -> None:
                if name != "auto":
                    draw_into(weight, name, std, f"{path}.{part}")
                else:
                    draw_into(weight, "normal" if rule == "unit" else rule, 1.0, f"{path}.{part}")

            layer.reset_weights(fill, bias)


def _streams_of(seed: int, path: str) -> Callable[[str], torch.Generator]:
    """Return a function from a parameter's name to its stream."""
    return lambda part: stream(seed, "init", f"{path}.{part}".lstrip("."))
