"""Where the networks of a training stand, and who records it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from danlu.errors import Diverged, Interrupted
from danlu.recipe import Recipe

if TYPE_CHECKING:
    from danlu.train.engine.loop import Loop
    from danlu.train.engine.population import Population


@dataclass
class MemberState:
    """Where a network stands."""

    index: int
    """Of its recipe."""
    start_epoch: int = 0
    """Epochs of the population before it joined."""
    seconds: float = 0.0
    """Its share of the time so far."""
    best_loss: float = float("inf")
    """The lowest on validation, of the weights that are kept; of another figure where
    `early_stopping.metric` names one, negated where more of it is better."""
    best_epoch: int = 0
    loss_to_beat: float = float("inf")
    """The last one that was lower by `min_delta`: what counts for patience."""
    improved_epoch: int = 0
    lowest_loss: float = float("inf")
    """So far, where the schedule `plateau` follows it."""
    lowest_epoch: int = 0
    """When that was, or the rate was lowered last."""
    rate_drops: int = 0
    """How often the rate was lowered."""
    diverged: bool = False
    diverged_step: int = 0
    """At which it did, where its best weights are to be handed out all the same; 0 where not."""
    diverged_epochs: int = 0
    """Epochs that it had finished then."""
    stopped: bool = False
    """By a pruner, before its recipe's end."""

    def follow_loss(self, loss: float, epochs: int, wait: int) -> None:
        """Lower the rate where an epoch's loss is the `wait`th that is not the lowest so far.

        epochs: finished. (PyTorch's ReduceLROnPlateau with patience = wait − 1 and threshold = 0.)
        """
        if loss < self.lowest_loss:
            self.lowest_loss = loss
            self.lowest_epoch = epochs
        elif epochs - self.lowest_epoch >= wait:
            self.rate_drops += 1
            self.lowest_epoch = epochs

    def effort(self, epochs: int, steps: int) -> dict[str, Any]:
        """Return how long it was trained, as part of its result; epochs, steps: that it was there.

        One that diverged went on as far as it got itself, however long others did beside it.
        """
        effort: dict[str, Any] = {
            "epochs": epochs,
            "steps": steps,
            "seconds": round(self.seconds, 3),
        }
        if self.best_epoch:
            effort["best_epoch"] = self.best_epoch
        if self.diverged_step:
            effort["epochs"] = self.diverged_epochs
            effort["steps"] = effort["diverged_step"] = self.diverged_step
        return effort


def follow_losses(
    members: Sequence[MemberState],
    recipes: Sequence[Recipe],
    rows: Sequence[int],
    losses: Sequence[float],
    epoch: int,
) -> None:
    """Lower the rates of networks whose loss stopped falling, where their schedule says so.

    epoch: how many the population has finished.
    """
    for i in rows:
        wait = recipes[i].schedule.wait
        if wait:
            members[i].follow_loss(losses[i], epoch - members[i].start_epoch, wait)


@dataclass
class Progress:
    """How far the population is; who joins later counts from there."""

    epoch: int = 0
    """Epochs finished."""
    step: int = 0
    """Steps taken of the epoch begun."""


@dataclass(frozen=True)
class FinishedMember:
    """A network at its end: where it stood, and its number in the population that holds it."""

    state: MemberState
    row: int


class Meter(Protocol):
    """Measures networks in training, and changes nothing of it."""

    def next_step(self, population: Population, step: int) -> int:
        """Return the first step of the population to measure, from a step on."""
        ...

    def before_step(self, loop: Loop) -> None:
        """Look at the networks before such a step."""

    def after_step(self, loop: Loop) -> None:
        """Look at what the step did."""

    def last_finite(self, i: int, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of network i of the population, or where they are not finite, older ones.

        Those of the last step that was measured.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        ...

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""


class Recorder(Protocol):
    """Records what a training leaves behind."""

    interval: float
    """Seconds between two calls of `stepped`."""

    def stepped(self, loop: Loop) -> None:
        """Note progress, now and then between two steps."""

    def epoch_ended(self, rows: list[tuple[MemberState, dict[str, Any]]]) -> None:
        """Record the history's rows of an epoch; may mark members as stopped."""

    def finished(self, loop: Loop, population: Population, members: list[FinishedMember]) -> None:
        """Record networks that are finished; `population` has their final weights."""

    def diverged(
        self,
        member: MemberState,
        weights: dict[str, Tensor],
        error: Diverged,
        losses: list[float],
    ) -> None:
        """Record a network that diverged, with its last weights and the losses of its last steps.

        The weights are those from before the step, or finite ones from before, where known.
        """

    def save(self, step: int, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        """Write a checkpoint."""

    def interrupted(self, step: int) -> Interrupted:
        """Return what to raise when the user stops the training after a checkpoint."""
        ...
