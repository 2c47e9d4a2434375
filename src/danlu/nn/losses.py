"""The table of losses, and the recipe fields that they take."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from danlu.fields import Field
from danlu.nn.loss_gradients import (
    Gradient,
    Loss,
    absolute_error_gradient,
    cross_entropy_gradient,
    focal_gradient,
    gradient_by_autograd,
    huber_gradient,
    squared_error_gradient,
)
from danlu.nn.loss_values import (
    absolute_error,
    cross_entropy,
    cross_entropy_explicit,
    focal,
    huber,
    squared_error,
)

LABEL_SMOOTHING = Field(
    "label_smoothing",
    float,
    0.0,
    "ε: labels become 1 − ε on the class and ε/(K − 1) on each other one.",
    hint="0.1",
    ge=0,
    lt=1,
)
GAMMA = Field(
    "gamma",
    float,
    2.0,
    "γ of focal: the loss of an example counts (1 − p)^γ, for the probability p of its class.",
    hint="2",
    ge=0,
    le=100,
)
DELTA = Field(
    "delta",
    float,
    1.0,
    "δ of huber, in standard deviations of the target: larger errors count in proportion, not "
    "squared.",
    hint="0.1",
    gt=0,
    le=1e6,
)


@dataclass(frozen=True)
class LossRule:
    """A loss: its value for one network, and its gradient for several.

    parameter: the recipe field that both take, which may differ from network to network. classes:
    whether targets are classes, else they are numbers. closed: the gradient, where there is one
    in closed form; autograd gives the others.
    """

    value: Loss
    classes: bool = True
    parameter: Field | None = None
    closed: Gradient | None = None

    @property
    def gradient(self) -> Gradient:
        """The losses of M networks, and their gradients by the outputs."""
        return self.closed or gradient_by_autograd(self.value)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The recipe fields it reads."""
        return (self.parameter,) if self.parameter else ()


LOSSES: dict[str, LossRule] = {
    "cross-entropy": LossRule(
        cross_entropy, parameter=LABEL_SMOOTHING, closed=cross_entropy_gradient
    ),
    "cross-entropy-explicit": LossRule(cross_entropy_explicit, parameter=LABEL_SMOOTHING),
    "focal": LossRule(focal, parameter=GAMMA, closed=focal_gradient),
    "squared-error": LossRule(squared_error, classes=False, closed=squared_error_gradient),
    "huber": LossRule(huber, classes=False, parameter=DELTA, closed=huber_gradient),
    "absolute-error": LossRule(absolute_error, classes=False, closed=absolute_error_gradient),
}


def resolve_loss(name: str, classes: bool) -> str:
    """Return what "auto" stands for: cross-entropy for classes, squared error for numbers."""
    if name != "auto":
        return name
    return "cross-entropy" if classes else "squared-error"


def balanced_weights(counts: Tensor) -> Tensor:
    """Return class weights N/(K·n_k), so that every class counts alike."""
    examples, classes = counts.sum(), len(counts)
    # A class without examples weighs as one with a single example.
    weights = examples / (classes * counts.clamp_min(1))
    return weights.float()
