"""Learning-rate schedules as factors of `lr`, all but one in closed form.

Legend: t epochs done (a fraction inside an epoch), T epochs in all, both counted after the
warm-up; h the fields of the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from danlu.fields import Field, defaults


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
    share_done = min(1.0, t / total)
    return _half_cosine(h["final"], share_done)


def _half_cosine(low: float, x: float) -> float:
    """Return what falls from 1 at x = 0 to `low` at x = 1 along half a cosine."""
    height = (1 + math.cos(math.pi * x)) / 2  # from 1 to 0
    return float(low + (1 - low) * height)


def one_cycle(t: float, total: float, h: dict[str, Any]) -> float:
    """Up from `initial` to 1 over the share `peak` of the training, then down to `final`.

    Both ways along half a cosine (Smith and Topin 2018).
    """
    peak = h["peak"]
    share_done = min(1.0, t / total)
    if share_done < peak:
        return _half_cosine(h["initial"], 1 - share_done / peak)
    return _half_cosine(h["final"], (share_done - peak) / (1 - peak))


def warm_restarts(t: float, total: float, h: dict[str, Any]) -> float:
    """Cosines from 1 to `final`, the first of `period` epochs, each `growth` times as long.

    (Loshchilov and Hutter 2017, eq. 5.)
    """
    length, start = float(h["period"]), 0.0
    while t >= start + length:
        start += length
        length *= h["growth"]
    return _half_cosine(h["final"], (t - start) / length)


def plateau(t: float, total: float, h: dict[str, Any]) -> float:
    """γ^(how often the loss stopped falling so far), which `DROPS` among the fields says."""
    return float(h["gamma"] ** h.get(DROPS, 0))


DROPS = "drops"


@dataclass(frozen=True)
class Schedule:
    """A closed form, and the fields it reads.

    follows_loss: whether it also reads, as `DROPS`, how often a network's loss stopped falling.
    """

    factor: Callable[[float, float, dict[str, Any]], float]
    fields: tuple[Field, ...] = ()
    follows_loss: bool = False

    @property
    def defaults(self) -> dict[str, float]:
        """The defaults of the schedule's fields."""
        return defaults(self.fields)


GAMMA = Field(
    "gamma",
    float,
    0.1,
    "Factor of `step` (each `every` epochs) and `exponential` (each epoch).",
    gt=0,
    le=1,
)
EVERY = Field("every", float, 10.0, "Epochs between two steps.", gt=0)
DECAY = Field("decay", float, 1.0, "k of `inverse`, 1/(1 + k·t).", ge=0)
FINAL = Field("final", float, 0.0, "Factor at the end of `cosine` and `one-cycle`.", ge=0, le=1)
INITIAL = Field("initial", float, 0.04, "Factor at the start of `one-cycle`.", ge=0, le=1)
PEAK = Field(
    "peak",
    float,
    0.3,
    "Share of the training after which `one-cycle` is at its highest.",
    gt=0,
    lt=1,
)
PERIOD = Field("period", float, 10.0, "Epochs of `warm-restarts`' first cosine.", "10", gt=0)
GROWTH = Field(
    "growth", float, 1.0, "How many times as long each further cosine is.", "2", ge=1, le=100
)
WAIT = Field(
    "wait",
    int,
    3,
    "Epochs in a row without a lower loss (validation, else training) before `plateau` lowers the "
    "rate.",
    "3",
    ge=1,
)

SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(constant),
    "step": Schedule(step, (GAMMA, EVERY)),
    "exponential": Schedule(exponential, (GAMMA.with_default(0.95),)),
    "inverse": Schedule(inverse, (DECAY,)),
    "cosine": Schedule(cosine, (FINAL,)),
    "one-cycle": Schedule(one_cycle, (INITIAL, PEAK, FINAL)),
    "warm-restarts": Schedule(warm_restarts, (PERIOD, GROWTH, FINAL)),
    "plateau": Schedule(plateau, (GAMMA.with_default(0.3), WAIT), follows_loss=True),
}


def factor(
    name: str,
    k: int,
    per_epoch: int,
    epochs: float,
    warmup: float,
    h: dict[str, Any],
) -> float:
    """Return the schedule's factor at step k = 0, 1, …

    Over the first `warmup` epochs the factor climbs linearly from 1/steps to 1.
    """
    warmup_steps = warmup * per_epoch
    # From 1/steps on, not from 0: the first step is to move the weights.
    if k < warmup_steps:
        return min(1.0, (k + 1) / warmup_steps)
    epochs_done = k / per_epoch - warmup
    # A warm-up may last for the whole training.
    epochs_in_all = max(epochs - warmup, 1e-12)
    return SCHEDULES[name].factor(epochs_done, epochs_in_all, h)
