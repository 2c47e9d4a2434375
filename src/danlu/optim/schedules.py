"""Learning-rate schedules as factors of `lr`, in closed form.

Legend: t epochs done (a fraction inside an epoch), T epochs in all, both counted after the warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


def constant(t: float, total: float, h: dict[str, Any]) -> float:
    """1."""
    return 1.0


def step(t: float, total: float, h: dict[str, Any]) -> float:
    """γ^⌊t/every⌋."""
    return float(h["gamma"] ** math.floor(t / h["every"]))


def exponential(t: float, total: float, h: dict[str, Any]) -> float:
    """γᵗ."""
    return float(h["gamma"] ** t)


def inverse(t: float, total: float, h: dict[str, Any]) -> float:
    """1/(1 + decay·t)."""
    return float(1 / (1 + h["decay"] * t))


def cosine(t: float, total: float, h: dict[str, Any]) -> float:
    """f + (1 − f)·(1 + cos(πt/T))/2, from 1 to f = `final` (Loshchilov and Hutter 2017)."""
    return float(h["final"] + (1 - h["final"]) * (1 + math.cos(math.pi * min(1.0, t / total))) / 2)


def one_cycle(t: float, total: float, h: dict[str, Any]) -> float:
    """Up from `initial` to 1 over the share `peak` of the training, then down to `final`, both along half a cosine

    (Smith and Topin 2018).
    """
    x = min(1.0, t / total)
    up = x < h["peak"]
    low, part = (
        (h["initial"], 1 - x / h["peak"]) if up else (h["final"], (x - h["peak"]) / (1 - h["peak"]))
    )
    return float(low + (1 - low) * (1 + math.cos(math.pi * part)) / 2)


@dataclass(frozen=True)
class Schedule:
    """A closed form and the defaults of the fields it uses."""

    factor: Callable[[float, float, dict[str, Any]], float]
    defaults: dict[str, float] = field(default_factory=dict)


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(constant),
    "step": Schedule(step, {"gamma": 0.1, "every": 10.0}),
    "exponential": Schedule(exponential, {"gamma": 0.95}),
    "inverse": Schedule(inverse, {"decay": 1.0}),
    "cosine": Schedule(cosine, {"final": 0.0}),
    "one-cycle": Schedule(one_cycle, {"initial": 0.04, "peak": 0.3, "final": 0.0}),
}


def factor(
    name: str, k: int, per_epoch: int, epochs: float, warmup: float, h: dict[str, Any]
) -> float:
    """The schedule's factor at step k = 0, 1, …; the first `warmup` epochs climb linearly from 1/steps to 1."""
    if k < warmup * per_epoch:
        return min(1.0, (k + 1) / (warmup * per_epoch))
    return SCHEDULES[name].factor(k / per_epoch - warmup, max(epochs - warmup, 1e-12), h)
