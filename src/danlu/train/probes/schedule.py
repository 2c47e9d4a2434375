"""When probes are taken: by a network's own updates alone, so that its company changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

_EARLY = (0, 1, 3, 10, 30)  # updates: many trainings fail early
_MOST = 48  # measurements of a whole training, beside the early ones…
_UPDATES_PER_MEASUREMENT = 80  # …and at least so many updates for each: it takes a few of them


@dataclass(frozen=True)
class Schedule:
    """The updates of a training that are measured.

    stride: within an epoch every so many, from its first; epochs: of every so many epochs, one.
    So networks that joined in different epochs are mostly measured together.
    """

    updates_per_epoch: int
    stride: int
    epochs: int

    @classmethod
    def of(cls, updates_per_epoch: int, epochs: int) -> Schedule:
        """Return that of a training of so many epochs."""
        updates = updates_per_epoch * epochs
        apart = max(_UPDATES_PER_MEASUREMENT, updates // _MOST)
        return cls(updates_per_epoch, apart, max(1, apart // updates_per_epoch))

    def is_due(self, update: int) -> bool:
        """Whether update 0, 1, … is measured."""
        if update in _EARLY:
            return True
        epoch, in_epoch = divmod(update, self.updates_per_epoch)
        return in_epoch % self.stride == 0 and epoch % self.epochs == 0
