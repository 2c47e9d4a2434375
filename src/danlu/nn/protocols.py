"""What a module may offer the engine beyond `forward`.

These are base classes, not structural protocols: a stranger's module that happens to have a method
of such a name does not change how it is trained. A user's own module opts in by inheriting.

Legend: B examples, T tokens, K outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]  # of a recurrent network: h [B, H] of each layer, and c where it has one


class DrawsOwnWeights(ABC):
    """A layer whose initial values follow no named rule."""

    @abstractmethod
    def initialise(self, draw: Callable[[str], torch.Generator]) -> None:
        """Fill the parameters; `draw` gives the random stream of each by its name."""


class ResetsWeights(ABC):
    """A layer that says by which rule each part of its weights is drawn."""

    @abstractmethod
    def reset_weights(
        self,
        fill: Callable[[str, Tensor, str], None],
        bias: float,
    ) -> None:
        """Call `fill(name of the part, its tensor, rule)` for each part, and set the biases.

        The rule is a name in `danlu.nn.init.INITS`, or "unit" for N(0, 1).
        """


class HasAuxiliaryClassifiers(ABC):
    """A network that gives, in training, the outputs of auxiliary classifiers after its own."""

    auxiliary_weights: tuple[float, ...]
    """What the loss of each auxiliary classifier counts."""


class Stateful(ABC):
    """A network that may carry its state from one batch to the next."""

    stateful: bool
    """Whether it does: then forward(x, state) returns (outputs, state)."""


class HasSequenceLoss(ABC):
    """A network whose loss may be of a whole sequence instead of one of each token."""

    has_sequence_loss: bool
    """Whether it is. In evaluation such a network gives marginals and the likeliest path."""

    @abstractmethod
    def sequence_loss(self, x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σ weights·(−log P(y | x)) and the logits [B, T, K]; x, y [B, T], weights [B]."""


class NextToken(ABC):
    """A network that continues a text."""

    @abstractmethod
    def step(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return logits [B, K] of what follows x [B, T], and the state to go on from."""


class EncodesAndDecodes(ABC):
    """A network that reads a source and writes a target."""

    @abstractmethod
    def read(self, source: Tensor) -> tuple[State, Any]:
        """Return the state after each source [B, S], and what attention looks back on."""

    @abstractmethod
    def write(self, target: Tensor, state: State, memory: Any) -> tuple[Tensor, State]:
        """Return logits [T, B, K] of what follows each token of target [B, T], and the state."""


def is_stateful(model: nn.Module) -> bool:
    """Whether a network carries its state from batch to batch."""
    return isinstance(model, Stateful) and model.stateful


def has_sequence_loss(model: nn.Module) -> bool:
    """Whether a network's loss is of whole sequences."""
    return isinstance(model, HasSequenceLoss) and model.has_sequence_loss


def auxiliary_weights(model: nn.Module) -> tuple[float, ...]:
    """Return what the loss of each auxiliary classifier counts; () for a network without any."""
    if isinstance(model, HasAuxiliaryClassifiers):
        return model.auxiliary_weights
    return ()
