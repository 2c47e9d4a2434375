"""Layers that PyTorch lacks, and the activations by name."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from danlu.nn.protocols import DrawsOwnWeights

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}

_dropout_source: ContextVar[Any] = ContextVar("dropout_source", default=None)


@contextlib.contextmanager
def dropout_source(source: Any) -> Iterator[None]:
    """Draw the masks of all Dropout layers from this source, in the forward pass's order.

    source: a `torch.Generator`, or a function (layer, x) → mask.
    """
    token = _dropout_source.set(source)
    try:
        yield
    finally:
        _dropout_source.reset(token)


class Dropout(nn.Module):
    """Zero each value with probability p in training and scale the rest by 1/(1−p).

    So the mean is kept, and nothing is left to do at test time (Srivastava et al. 2014, in the
    inverted form). Masks come from `dropout_source`; without one, from PyTorch's own generator.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return x, of any shape, with values zeroed in training."""
        if not self.training or not self.p:
            return x
        return x * self.mask(x)

    def mask(self, x: Tensor) -> Tensor:
        """Return a fresh mask of x's shape: 0 with probability p, else 1/(1−p)."""
        source = _dropout_source.get()
        # In a population masks are drawn for all networks at once.
        if callable(source):
            made: Tensor = source(self, x)
            return made
        device = source.device if source else x.device
        u = torch.rand(x.shape, generator=source, device=device, dtype=torch.float32)
        # bfloat16 would round 1/(1−p), so there the mask stays in float32.
        dtype = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
        kept = (u >= self.p).to(x.device, dtype)
        scale = 1 / (1 - self.p)
        return kept * scale

    def extra_repr(self) -> str:
        """Return what `print(model)` shows."""
        return f"p={self.p}"


class PHMLinear(nn.Module, DrawsOwnWeights):
    """A dense layer whose weight is Σᵢ Aᵢ ⊗ Sᵢ, i = 1…n: d·q/n + n³ weights instead of d·q.

    Parameterised hypercomplex multiplication (Zhang et al. 2021, "Beyond fully-connected layers
    with quaternions", eq. 4). Aᵢ is [n, n], Sᵢ [q/n, d/n]; n must divide both d and q.
    x [..., d] → [..., q].
    """

    def __init__(self, d: int, q: int, n: int) -> None:
        super().__init__()
        self.d = d
        self.q = q
        self.n = n
        self.mix = nn.Parameter(torch.empty(n, n, n))  # A
        self.parts = nn.Parameter(torch.empty(n, q // n, d // n))  # S
        self.bias = nn.Parameter(torch.zeros(q))

    def initialise(self, draw: Callable[[str], torch.Generator]) -> None:
        """Aᵢ ~ N(0, 1/n²), and Sᵢ so that the product has the variance 2/d of He's rule."""
        std_of_mix = 1 / self.n
        std_of_parts = math.sqrt(2 * self.n / self.d)
        _fill_normal(self.mix, std_of_mix, draw("mix"))
        _fill_normal(self.parts, std_of_parts, draw("parts"))
        self.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Return (Σ Aᵢ ⊗ Sᵢ) x + b without forming the big matrix."""
        blocks = x.unflatten(-1, (self.n, self.d // self.n))  # [..., n, d/n]
        small = torch.einsum("...bd,iqd->...ibq", blocks, self.parts)  # [..., i, n, q/n]
        mixed = torch.einsum("...ibq,iab->...aq", small, self.mix)  # [..., n, q/n]
        return mixed.flatten(-2) + self.bias

    def extra_repr(self) -> str:
        """Return what `print(model)` shows."""
        return f"{self.d}, {self.q}, n={self.n}"


def _fill_normal(p: Tensor, std: float, generator: torch.Generator) -> None:
    # In float64, so that the draw does not depend on the weights' precision.
    values = torch.randn(p.shape, generator=generator, dtype=torch.float64)
    p.copy_(values * std)


class ExplicitLinear(nn.Module):
    """o = XW + b written out (softmax regression from first principles).

    The weight is kept as Wᵀ [q, n], as in PyTorch.
    """

    def __init__(self, n: int, q: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(q, n))
        self.bias = nn.Parameter(torch.zeros(q))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, n] → [B, q]."""
        return torch.matmul(x, self.weight.t()) + self.bias

    def extra_repr(self) -> str:
        """Return what `print(model)` shows."""
        q, n = self.weight.shape
        return f"{n}, {q}"
