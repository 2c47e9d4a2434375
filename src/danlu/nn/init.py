"""Initial values of weights, by their fan-in n and fan-out q.

Every parameter draws from its own named stream, so its values do not depend on what else the model holds.
Legend: q outputs, n inputs of one unit (a convolution's n is channels × kernel area).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from danlu.rng import stream

Draw = Callable[[tuple[int, ...], int, int, float, torch.Generator], Tensor]


def _randn(shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=g, dtype=torch.float64)


def normal(shape: tuple[int, ...], n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """N(0, std²)."""
    return std * _randn(shape, g)


def uniform(shape: tuple[int, ...], n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """U(−r, r) with r = √3·std, so that its standard deviation is std."""
    return (torch.rand(shape, generator=g, dtype=torch.float64) * 2 - 1) * (math.sqrt(3) * std)


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
    return (torch.rand(shape, generator=g, dtype=torch.float64) * 2 - 1) / math.sqrt(n)


def orthogonal(shape: tuple[int, ...], n: int, q: int, std: float, g: torch.Generator) -> Tensor:
    """W Wᵀ = I (or WᵀW = I when tall): U Vᵀ of the SVD of a Gaussian matrix (Saxe et al. 2014)."""
    u, _, v = torch.linalg.svd(_randn((shape[0], math.prod(shape[1:])), g), full_matrices=False)
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
SPREAD = ("normal", "uniform")  # the rules that use `std`
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
    """(n, q) of a weight [q, n, *kernel]."""
    area = math.prod(shape[2:])
    return shape[1] * area, shape[0] * area


def plan(model: nn.Module, name: str, activation: str) -> list[tuple[str, nn.Module, str]]:
    """(layer's name, layer, rule) for each layer with a weight matrix or kernel, in order.

    name "auto" follows the activation: He for the ReLU family, Xavier otherwise and before the output.
    """
    weighted = [
        (k, m)
        for k, m in model.named_modules()
        if isinstance(getattr(m, "weight", None), nn.Parameter) and not hasattr(m, "reset_weights")
    ]
    dense = [(k, m) for k, m in weighted if m.weight.ndim >= 2]
    last = len(dense) - 1
    by_place = [BY_ACTIVATION["identity" if i == last else activation] for i in range(len(dense))]
    return [(k, m, by_place[i] if name == "auto" else name) for i, (k, m) in enumerate(dense)]


@torch.no_grad()
def initialise(
    model: nn.Module, name: str, activation: str, std: float, bias: float, seed: int
) -> None:
    """Fill weights by the named rule, biases with a constant; normalisation layers keep γ = 1, β = 0."""
    for k, m, rule in plan(model, name, activation):
        w, b = m.weight, getattr(m, "bias", None)
        assert isinstance(w, nn.Parameter)
        shape = tuple(w.shape)
        w.copy_(
            INITS[rule](shape, *fans(shape), std, stream(seed, "init", f"{k}.weight".lstrip(".")))
        )
        if isinstance(b, nn.Parameter):
            b.fill_(bias)
    for k, m in model.named_modules():
        own = getattr(m, "initialise", None)
        if callable(own):
            own(lambda part, k=k: stream(seed, "init", f"{k}.{part}".lstrip(".")))
        reset = getattr(m, "reset_weights", None)
        if callable(reset):

            def fill(part: str, w: Tensor, rule: str, k: str = k) -> None:
                drawn = {"unit": "normal"}.get(rule, rule) if name == "auto" else name
                spread = 1.0 if name == "auto" else std
                shape = tuple(w.shape)
                w.copy_(
                    INITS[drawn](
                        shape, *fans(shape), spread, stream(seed, "init", f"{k}.{part}".lstrip("."))
                    )
                )

            reset(fill, bias)
