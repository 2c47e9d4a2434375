"""When probes are taken: by a network's own updates alone, so that its company changes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

EARLY = (0, 3, 10, 30)  # updates: many trainings fail early…
_EARLY_OF_FEW = (0, 3, 30)  # …and of few updates fewer can be measured
_FEW = 400
# Measurements of a whole training, beside the early ones…
_MEASUREMENTS = {"light": 12, "full": 60}
# …so many updates apart: each takes as long as a few of them, of a tiny network dozens…
_LEAST_APART = 100
_MOST_APART = 800
_MOST_TIMES = 4  # …and as many times as far where the sample is larger than a batch, up to this


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
    def of(cls, updates_per_epoch: int, epochs: int, level: str, sample: float = 1) -> Schedule:
        """Return that of a training of so many epochs, at a level of probes.

        sample: how many times the examples of an update the sample has.
        """
        updates = updates_per_epoch * epochs
        least = _LEAST_APART * min(_MOST_TIMES, max(1, round(sample)))
        apart = max(least, min(_MOST_APART, updates // _MEASUREMENTS[level]))
        early = EARLY if updates > _FEW else _EARLY_OF_FEW
        in_epoch = max(1, round(updates_per_epoch / apart))
        stride = math.ceil(updates_per_epoch / in_epoch)
        return cls(updates_per_epoch, stride, max(1, round(apart / updates_per_epoch)), early)

    def is_due(self, update: int) -> bool:
        """Whether update 0, 1, … is measured."""
        if update in self.early:
            return True
        epoch, in_epoch = divmod(update, self.updates_per_epoch)
        return in_epoch % self.stride == 0 and epoch % self.epochs == 0
