"""Update rules, written once and used by the engine and by `danlu.optim.Optimizer`.

A rule changes p in place by its gradient g. Its hyper-parameters h are numbers, or tensors that
broadcast against p (one value per network of a population, see `per_network`). t counts steps
from 1; it is float64 where it differs by network. In formulas α is the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from danlu.fields import Field, defaults

State = dict[str, Tensor]
Hyper = dict[str, Any]


class DecayRate:
    """β of several networks, [M, 1], as it stands in a formula.

    Rounded to float32, a β near 1 would put 1 − β and 1 − βᵗ off by 10⁻⁵. So both are computed
    from the exact β; where a tensor is multiplied by β itself, the rounded one serves.
    """

    def __init__(self, exact: Tensor, dtype: torch.dtype) -> None:
        self.exact = exact
        self.numbers: list[float] = exact.flatten().tolist()
        self.dtype = dtype
        self.rounded = exact.to(dtype)
        self.complement = (1 - exact).to(dtype)

    def __rsub__(self, one: int) -> Tensor:
        return self.complement

    def __pow__(self, t: Any) -> Tensor:
        counts = t.flatten().tolist() if isinstance(t, Tensor) else [t] * len(self.numbers)
        powers = [beta**count for beta, count in zip(self.numbers, counts, strict=True)]
        return self.exact.new_tensor(powers).unsqueeze(1)

    def __getitem__(self, rows: slice) -> DecayRate:
        return DecayRate(self.exact[rows], self.dtype)

    @classmethod
    def __torch_function__(
        cls,
        function: Any,
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        plain = []
        for value in args:
            plain.append(value.rounded if isinstance(value, DecayRate) else value)
        return function(*plain, **(kwargs or {}))


def per_network(name: str, values: Tensor, dtype: torch.dtype) -> Tensor | DecayRate:
    """Return a hyper-parameter of several networks, float64 [M, 1], as rules take it."""
    if name in DECAY_RATES:
        return DecayRate(values, dtype)
    return values.to(dtype)


def rows_of(value: Any, rows: slice) -> Any:
    """Return a hyper-parameter of some of the networks."""
    if isinstance(value, (Tensor, DecayRate)):
        return value[rows]
    return value


def subtract(p: Tensor, a: Any, x: Tensor) -> None:
    """p ← p − ax in one pass."""
    if isinstance(a, Tensor):
        p.addcmul_(a, x, value=-1)
    else:
        p.sub_(x, alpha=a)


def accumulate_square(s: Tensor, beta: Any, x: Tensor) -> None:
    """s ← βs + (1 − β)x²."""
    s.mul_(beta)
    # Of several networks that is a tensor, exact from β.
    weight = 1 - beta
    if isinstance(weight, Tensor):
        s.add_(weight * x * x)
    else:
        s.addcmul_(x, x, value=weight)


def root(s: Tensor) -> Tensor:
    """Return √s, with the smallest number for 0: Intel's library is ten times as slow at √0."""
    return s.clamp_min(torch.finfo(s.dtype).tiny).sqrt_()


def descend(p: Tensor, a: Any, x: Tensor, root: Tensor, eps: Any) -> None:
    """p ← p − ax/(root + ε); `root` is overwritten."""
    if isinstance(a, Tensor):
        p.addcdiv_(a * x, root.add_(eps), value=-1)
    else:
        p.addcdiv_(x, root.add_(eps), value=-a)


def sgd(p: Tensor, g: Tensor, s: State, h: Hyper, t: Any) -> None:
    """W ← W − αg."""
    subtract(p, h["lr"], g)


def momentum(p: Tensor, g: Tensor, s: State, h: Hyper, t: Any) -> None:
    """v ← γv − αg, W ← W + v (Polyak 1964)."""
    v = s["v"].mul_(h["momentum"])
    subtract(v, h["lr"], g)
    p.add_(v)


def nesterov(p: Tensor, g: Tensor, s: State, h: Hyper, t: Any) -> None:
    """v ← γv − αg, W ← W + γv − αg (Sutskever et al. 2013, in the look-ahead variable)."""
    v, gamma = s["v"], h["momentum"]
    step = h["lr"] * g
    v.mul_(gamma).sub_(step)
    p.add_(gamma * v).sub_(step)


def adagrad(p: Tensor, g: Tensor, s: State, h: Hyper, t: Any) -> None:
    """h ← h + g², W ← W − αg/(√h + ε) (Duchi et al. 2011)."""
    s["h"].addcmul_(g, g)
    descend(p, h["lr"], g, root(s["h"]), h["eps"])


def rmsprop(p: Tensor, g: Tensor, s: State, h: Hyper, t: Any) -> None:
    """h ← ρh + (1−ρ)g², W ← W − αg/(√h + ε) (Tieleman and Hinton 2012)."""
    accumulate_square(s["h"], h["rho"], g)
    descend(p, h["lr"], g, root(s["h"]), h["eps"])


def adam(p: Tensor, g: Tensor, s: State, h: Hyper, t: Any) -> None:
    """m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², W ← W − α·m̂/(√v̂ + ε).

    m̂ = m/(1−β₁ᵗ) and v̂ = v/(1−β₂ᵗ) (Kingma and Ba 2015, algorithm 1).
    """
    beta1, beta2 = h["beta1"], h["beta2"]
    # m ← β₁m + (1 − β₁)g.
    s["m"].lerp_(g, 1 - beta1)
    accumulate_square(s["v"], beta2, g)
    # The powers are exact, float64; only then are they rounded to what the parameters have.
    first = rounded(1 - power(beta1, t), p.dtype)
    second = rounded(square_root(1 - power(beta2, t)), p.dtype)
    root_v = root(s["v"]).div_(second)
    descend(p, rounded(h["lr"], p.dtype) / first, s["m"], root_v, h["eps"])


def power(beta: Any, t: Any) -> Any:
    """Return βᵗ in double precision, by Python's own arithmetic: one number, or [M, 1].

    A vector's would depend, in the last bit, on how many others lie beside it.
    """
    if isinstance(t, Tensor) and not isinstance(beta, DecayRate):
        beta = DecayRate(torch.full_like(t, beta), t.dtype)
    return beta**t


def square_root(x: Any) -> Any:
    """Return √x, rounded as the standard says."""
    return x.sqrt() if isinstance(x, Tensor) else math.sqrt(x)


def rounded(x: Any, dtype: torch.dtype) -> Any:
    """Return a number as it stands in a column of that type, which computes in it."""
    if isinstance(x, Tensor):
        return x.to(dtype)
    return float(torch.tensor(x, dtype=dtype))


def adam_fused(p: list[Tensor], g: list[Tensor], s: list[State], h: Hyper, t: int) -> None:
    """Adam for many tensors in one PyTorch kernel, several times as fast; h holds numbers."""
    # The kernel wants a count for each tensor; one serves all.
    step = torch.tensor(float(t), device=p[0].device)
    torch._fused_adam_(
        p,
        g,
        [state["m"] for state in s],
        [state["v"] for state in s],
        max_exp_avg_sqs=[],
        state_steps=[step] * len(p),
        lr=h["lr"],
        beta1=h["beta1"],
        beta2=h["beta2"],
        weight_decay=0.0,  # decoupled decay comes before, see `UpdateRule.decay`
        eps=h["eps"],
        amsgrad=False,
        maximize=False,
    )


@dataclass(frozen=True)
class UpdateRule:
    """An update rule: its fields, the state it keeps beside each parameter, and its formula.

    fused: PyTorch's kernel for it, where there is one.
    """

    update: Callable[[Tensor, Tensor, State, Hyper, Any], None]
    fields: tuple[Field, ...]
    state: tuple[str, ...] = ()
    fused: Callable[[list[Tensor], list[Tensor], list[State], Hyper, int], None] | None = None

    @property
    def defaults(self) -> dict[str, float]:
        """The defaults of the rule's fields."""
        return defaults(self.fields)

    def start(self, p: Tensor) -> State:
        """Return zeros of p's shape for each name of the state."""
        return {name: torch.zeros_like(p, requires_grad=False) for name in self.state}

    def decay(self, w: Tensor, h: Hyper) -> None:
        """W ← (1 − α·weight_decay)·W, the decoupled decay, before the update.

        (Loshchilov and Hutter 2019. The notes' β is α·weight_decay.)
        """
        lr, decay = rounded(h["lr"], w.dtype), rounded(h["weight_decay"], w.dtype)
        w.mul_(1 - rounded(lr * decay, w.dtype))


LR = Field(
    "lr",
    float,
    0.1,
    "Learning rate α.",
    hint="0.01",
    gt=0,
)
MOMENTUM = Field(
    "momentum",
    float,
    0.9,
    "γ of momentum and Nesterov.",
    hint="0.9",
    ge=0,
    lt=1,
)
RHO = Field("rho", float, 0.9, "Decay of RMSProp's squared gradients.", ge=0, lt=1)
BETA1 = Field("beta1", float, 0.9, "Adam's decay of the mean gradient.", ge=0, lt=1)
BETA2 = Field("beta2", float, 0.999, "Adam's decay of the squared gradient.", ge=0, lt=1)
EPS = Field("eps", float, 1e-8, "Added to the root in the denominator.", gt=0)
WEIGHT_DECAY = Field(
    "weight_decay",
    float,
    0.0,
    "Decoupled decay of weights (not biases): W ← (1 − lr·weight_decay)·W before each update.",
    ge=0,
)
# Fields of which formulas take 1 − β and 1 − βᵗ.
DECAY_RATES = frozenset({"rho", "beta1", "beta2"})

_ADAM_LR = LR.with_default(1e-3)
_ADAM_FUSED = adam_fused if hasattr(torch, "_fused_adam_") else None

OPTIMIZERS: dict[str, UpdateRule] = {
    "sgd": UpdateRule(
        sgd,
        fields=(LR, WEIGHT_DECAY),
    ),
    "momentum": UpdateRule(
        momentum,
        fields=(LR.with_default(0.01), MOMENTUM, WEIGHT_DECAY),
        state=("v",),
    ),
    "nesterov": UpdateRule(
        nesterov,
        fields=(LR.with_default(0.01), MOMENTUM, WEIGHT_DECAY),
        state=("v",),
    ),
    "adagrad": UpdateRule(
        adagrad,
        fields=(LR.with_default(0.01), EPS.with_default(1e-7), WEIGHT_DECAY),
        state=("h",),
    ),
    "rmsprop": UpdateRule(
        rmsprop,
        fields=(LR.with_default(1e-3), RHO, EPS, WEIGHT_DECAY),
        state=("h",),
    ),
    "adam": UpdateRule(
        adam,
        fields=(_ADAM_LR, BETA1, BETA2, EPS, WEIGHT_DECAY),
        state=("m", "v"),
        fused=_ADAM_FUSED,
    ),
    "adamw": UpdateRule(
        adam,
        fields=(_ADAM_LR, BETA1, BETA2, EPS, WEIGHT_DECAY.with_default(0.01)),
        state=("m", "v"),
        fused=_ADAM_FUSED,
    ),
}
