"""Layers the framework lacks, and the activations by name."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}

_noise: ContextVar[Any] = ContextVar("noise", default=None)  # where masks come from; set by `noise`


@contextlib.contextmanager
def noise(source: Any) -> Iterator[None]:
    """Within, every Dropout in training mode draws its mask from this generator, in the order of the forward pass.

    source: a `torch.Generator`, or a function (layer, x) → mask.
    """
    token = _noise.set(source)
    try:
        yield
    finally:
        _noise.reset(token)


class Dropout(nn.Module):
    """Zero each value with probability p in training and scale the rest by 1/(1−p), so the mean is kept.

    (Srivastava et al. 2014, in the inverted form: nothing is left to do at test time.) Masks come from the
    stream that `noise` set; without one, from PyTorch's own generator.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape."""
        return x * self.mask(x) if self.training and self.p else x

    def mask(self, x: Tensor) -> Tensor:
        """A fresh mask of x's shape: 0 with probability p, else 1/(1−p), which bfloat16 would round."""
        g = _noise.get()
        if callable(g):
            made: Tensor = g(self, x)
            return made
        keep = (
            torch.rand(
                x.shape, generator=g, device=g.device if g else x.device, dtype=torch.float32
            )
            >= self.p
        )
        return keep.to(x.device, torch.float32 if x.dtype == torch.bfloat16 else x.dtype) * (
            1 / (1 - self.p)
        )

    def extra_repr(self) -> str:
        """Shown in `print(model)`."""
        return f"p={self.p}"


class PHMLinear(nn.Module):
    """A dense layer whose weight is Σᵢ Aᵢ ⊗ Sᵢ, i = 1…n: d·q/n + n³ weights instead of d·q.

    (Zhang et al. 2021, "Beyond fully-connected layers with quaternions", eq. 4.) Aᵢ is [n, n], Sᵢ [q/n, d/n];
    n must divide both d and q. x [..., d] → [..., q].
    """

    def __init__(self, d: int, q: int, n: int) -> None:
        super().__init__()
        self.d, self.q, self.n = d, q, n
        self.mix = nn.Parameter(torch.empty(n, n, n))
        self.parts = nn.Parameter(torch.empty(n, q // n, d // n))
        self.bias = nn.Parameter(torch.zeros(q))

    def initialise(self, draw: Callable[[str], torch.Generator]) -> None:
        """Aᵢ ~ N(0, 1/n²)… so that the product has the variance 2/d of He's rule."""
        for name, std in (("mix", 1 / self.n), ("parts", math.sqrt(2 * self.n / self.d))):
            p = getattr(self, name)
            p.copy_(torch.randn(p.shape, generator=draw(name), dtype=torch.float64) * std)
        self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(Σ Aᵢ ⊗ Sᵢ) x + b without forming the big matrix."""
        blocks = x.unflatten(-1, (self.n, self.d // self.n))  # [..., n, d/n]
        small = torch.einsum("...bd,iqd->...ibq", blocks, self.parts)
        return torch.einsum("...ibq,iab->...aq", small, self.mix).flatten(-2) + self.bias

    def extra_repr(self) -> str:
        """Shown in `print(model)`."""
        return f"{self.d}, {self.q}, n={self.n}"


class ExplicitLinear(nn.Module):
    """o = XW + b written out (softmax regression from first principles). The weight is kept as Wᵀ [q, n]."""

    def __init__(self, n: int, q: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(q, n))
        self.bias = nn.Parameter(torch.zeros(q))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, n] → [B, q]."""
        return torch.matmul(x, self.weight.t()) + self.bias

    def extra_repr(self) -> str:
        """Shown in `print(model)`."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"
