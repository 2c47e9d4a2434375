"""Update rules, written once for a tensor of parameters and used by the engine and by `danlu.optim.Optimizer`.

A rule changes p in place from its gradient g. Hyper-parameters are numbers, or tensors that broadcast against p
(one value per network of a population; `columns` makes them). t counts steps from 1; float64 where it differs by
network. α is `lr`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
Hyper = dict[str, Any]


def subtract(p: Tensor, a: Any, x: Tensor) -> None:
    """p ← p − ax in one pass."""
    if isinstance(a, Tensor):
        p.addcmul_(a, x, value=-1)
    else:
        p.sub_(x, alpha=a)


def columns(name: str, values: Tensor, dtype: torch.dtype) -> Hyper:
    """A hyper-parameter of several networks, float64 [M, 1], as rules take it.

    Of a β near 1 rounded to float32, 1 − β and 1 − βᵗ would be off by 10⁻⁵: they are made of the exact one.
    """
    found = {name: values.to(dtype)}
    return (
        {**found, f"1-{name}": (1 - values).to(dtype), f"exact {name}": values}
        if name in _DECAYS
        else found
    )


def rest(h: Hyper, name: str) -> Any:
    """1 − β."""
    return h[f"1-{name}"] if f"1-{name}" in h else 1 - h[name]


def exact(h: Hyper, name: str) -> Any:
    """β, not rounded."""
    return h.get(f"exact {name}", h[name])


def accumulate(s: Tensor, h: Hyper, name: str, x: Tensor) -> None:
    """s ← βs + (1 − β)x²."""
    s.mul_(h[name])
    share = rest(h, name)
    if isinstance(share, Tensor):
        s.add_(share * x * x)
    else:
        s.addcmul_(x, x, value=share)


def root(s: Tensor) -> Tensor:
    """√s; the smallest number stands for 0, of which Intel's library takes the root ten times as slowly."""
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
    step = h["lr"] * g
    s["v"].mul_(h["momentum"]).sub_(step)
    p.add_(h["momentum"] * s["v"]).sub_(step)


def adagrad(p: Tensor, g: Tensor, s: State, h: Hyper, t: Any) -> None:
    """h ← h + g², W ← W − αg/(√h + ε) (Duchi et al. 2011)."""
    s["h"].addcmul_(g, g)
    descend(p, h["lr"], g, root(s["h"]), h["eps"])


def rmsprop(p: Tensor, g: Tensor, s: State, h: Hyper, t: Any) -> None:
    """h ← ρh + (1−ρ)g², W ← W − αg/(√h + ε) (Tieleman and Hinton 2012)."""
    accumulate(s["h"], h, "rho", g)
    descend(p, h["lr"], g, root(s["h"]), h["eps"])


def adam(p: Tensor, g: Tensor, s: State, h: Hyper, t: Any) -> None:
    """m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², W ← W − α·m̂/(√v̂ + ε) with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)

    (Kingma and Ba 2015, algorithm 1.)
    """
    s["m"].lerp_(g, rest(h, "beta1"))
    accumulate(s["v"], h, "beta2", g)
    first, second = (1 - exact(h, k) ** t for k in ("beta1", "beta2"))
    second = second**0.5
    if isinstance(first, Tensor):
        first = first.to(p.dtype)
    if isinstance(second, Tensor):
        second = second.to(p.dtype)
    descend(p, h["lr"] / first, s["m"], root(s["v"]).div_(second), h["eps"])


def adam_fused(p: list[Tensor], g: list[Tensor], s: list[State], h: Hyper, t: int) -> None:
    """The same for many tensors in one kernel of the framework, several times as fast; h holds numbers only."""
    steps = [torch.tensor(float(t), device=p[0].device)] * len(p)
    torch._fused_adam_(
        p, g, [x["m"] for x in s], [x["v"] for x in s], [], steps, lr=h["lr"], beta1=h["beta1"], beta2=h["beta2"],
        weight_decay=0.0, eps=h["eps"], amsgrad=False, maximize=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """An update rule, the state it keeps beside each parameter, and the defaults of the fields it uses.

    fused: the framework's kernel for it, where there is one.
    """

    update: Callable[[Tensor, Tensor, State, Hyper, Any], None]
    state: tuple[str, ...] = ()
    defaults: dict[str, float] = field(default_factory=dict)
    fused: Callable[[list[Tensor], list[Tensor], list[State], Hyper, int], None] | None = None

    def start(self, p: Tensor) -> State:
        """Zeros of p's shape for each name of the state."""
        return {name: torch.zeros_like(p, requires_grad=False) for name in self.state}

    def decay(self, w: Tensor, h: Hyper) -> None:
        """Decoupled decay W ← (1 − α·weight_decay)·W, before the update.

        (Loshchilov and Hutter 2019. The notes' β is α·weight_decay.)
        """
        w.mul_(1 - h["lr"] * h["weight_decay"])


_DECAYS = ("beta1", "beta2", "rho")
_ADAM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
_FUSED = adam_fused if hasattr(torch, "_fused_adam_") else None
OPTIMIZERS: dict[str, Rule] = {
    "sgd": Rule(sgd, (), {"lr": 0.1, "weight_decay": 0.0}),
    "momentum": Rule(momentum, ("v",), {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0}),
    "nesterov": Rule(nesterov, ("v",), {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.0}),
    "adagrad": Rule(adagrad, ("h",), {"lr": 0.01, "eps": 1e-7, "weight_decay": 0.0}),
    "rmsprop": Rule(rmsprop, ("h",), {"lr": 1e-3, "rho": 0.9, "eps": 1e-8, "weight_decay": 0.0}),
    "adam": Rule(adam, ("m", "v"), _ADAM, _FUSED),
    "adamw": Rule(adam, ("m", "v"), {**_ADAM, "weight_decay": 0.01}, _FUSED),
}
