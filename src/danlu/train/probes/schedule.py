"""When probes are taken: by a network's own updates alone, so that its company changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

_EARLY = (0, 3, 10, 30)  # updates: many trainings fail early…
_EARLY_OF_FEW = (0, 3, 30)  # …and of few updates fewer can be measured
_FEW = 400
_UPDATES_PER_MEASUREMENT = 80  # at least: a measurement takes as long as a few of them
_MOST = {"light": 16, "full": 80}  # measurements of a whole training, beside the early ones


@dataclass(frozen=True)
class Schedule:
    """The updates of a training that are measured.

    stride: within an epoch every so many, from its first; epochs: of every so many epochs, one.
    early: further updates. So networks that joined in different epochs are mostly measured at the
    same steps.
    """

    updates_per_epoch: int
    stride: int
    epochs: int
    early: tuple[int, ...]

    @classmethod
    def of(cls, updates_per_epoch: int, epochs: int, level: str) -> Schedule:
        """Return that of a training of so many epochs, at a level of probes."""
        updates = updates_per_epoch * epochs
        apart = max(_UPDATES_PER_MEASUREMENT, updates // _MOST[level])
        early = _EARLY if updates > _FEW else _EARLY_OF_FEW
        return cls(updates_per_epoch, apart, max(1, apart // updates_per_epoch), early)

    def is_due(self, update: int) -> bool:
        """Whether update 0, 1, … is measured."""
        if update in self.early:
            return True
        epoch, in_epoch = divmod(update, self.updates_per_epoch)
        return in_epoch % self.stride == 0 and epoch % self.epochs == 0
