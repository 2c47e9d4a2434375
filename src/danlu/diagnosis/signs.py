"""Signs: what several rules ask of the evidence.

Legend: S measured steps, L layers with weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from danlu.diagnosis.data_evidence import Numbers
from danlu.diagnosis.evidence import Evidence, Measured

_SHORT = 3  # measured steps that are the start of a training
HANDFUL = 8  # examples
_EARLY = 30  # steps of a loop that are its start
_PARTS = 12  # of a loop's losses
_SWING = 1.1  # a loss by the lowest before it
_LATE = 1 / 3  # share of the measured steps that are its end


@dataclass(frozen=True)
class Signs:
    """Figures of a training relative to itself, or to chance."""

    evidence: Evidence

    @property
    def measured(self) -> Measured:
        """The measurements."""
        return self.evidence.measured

    @cached_property
    def unlearnt(self) -> float:
        """Loss on the training part by that of chance, 0 to 1: what is still to be learnt of it.

        1 for a training that diverged.
        """
        e = self.evidence
        if e.has_diverged:
            return 1.0
        loss = e.final("train_loss")
        if math.isnan(loss):
            losses = self.measured.whole("sample_loss")
            loss = float(losses[-1]) if len(losses) else math.nan
        if math.isnan(loss) or not e.chance > 0:
            return math.nan
        return float(np.clip(loss / e.chance, 0, 1))

    @cached_property
    def losses(self) -> Numbers:
        """The loss on the sample in training mode at each measured step [S].

        Of a loop that is not danlu's, that on the step's own batch.
        """
        losses = self.measured.whole("sample_loss_training")
        return losses if len(losses) else self.measured.whole("step_loss")

    @property
    def start(self) -> float:
        """The loss before the first step, by that of chance."""
        if not len(self.losses):
            return math.nan
        return float(self.losses[0] / self.evidence.chance)

    @property
    def early_growth(self) -> float:
        """The highest loss of the first steps, by the first; infinite where it is lost.

        Of a loop their median, where single batches say little.
        """
        e = self.evidence
        losses = np.array(e.step_losses[: _EARLY + 1], dtype=float)
        if not len(losses):
            losses = self.losses[: _SHORT + 1]
        early = losses[1:]
        finite = early[np.isfinite(early)]
        # A single loss that is lost, such as of a batch without targets, is no growth.
        if e.has_diverged and (not len(early) or len(finite) < len(early)):
            return math.inf
        # Squared errors of one batch, and losses of a handful, differ much from the next.
        is_handful = (e.settings.batch_size or 0) < HANDFUL
        is_noisy = e.recipe is None and (is_handful or not e.class_counts)
        height = np.median if is_noisy else np.max
        return float(height(finite) / losses[0]) if len(finite) and losses[0] > 0 else math.nan

    def early(self, column: str) -> float:
        """Return the median of a network's figure over the first measured steps."""
        return median(self.measured.whole(column)[:_SHORT])

    def late(self, column: str) -> float:
        """Return the median of a network's figure over the last third of the measured steps."""
        return self._at_the_end(self.measured.whole(column))

    def _at_the_end(self, values: Numbers) -> float:
        """Return the median over the last third of the measured steps."""
        return median(values[-max(1, round(_LATE * len(values))) :])

    @property
    def typical_clip(self) -> float:
        """The median of what clipping left of gradients; NaN where nothing is known of it."""
        return median(self.measured.whole("clip_factor"))

    @cached_property
    def weight_layers(self) -> list[str]:
        """Layers with weights that are updated, in the order of a pass where that was seen."""
        has_weights = []
        for layer in self.measured.layers:
            is_updated = np.isfinite(self.measured.of(layer, "weight_gradient")).any()
            if is_updated and (self.evidence.matrices is None or layer in self.evidence.matrices):
                has_weights.append(layer)
        passed = [layer for layer in has_weights if self.measured.has_output(layer)]
        return passed or has_weights

    @cached_property
    def update_ratios(self) -> Numbers:
        """‖ΔW‖/‖W‖, the median over layers at each measured step [S]."""
        rows = [self.measured.of(layer, "update_ratio") for layer in self.weight_layers]
        if not rows:
            return np.zeros(0)
        table = np.stack(rows)  # [L, S]
        table[~np.isfinite(table)] = math.nan
        return np.array([median(column) for column in table.T])

    @property
    def early_update(self) -> float:
        """The typical update ratio of the first measured steps."""
        return median(self.update_ratios[:_SHORT])

    @property
    def largest_early_update(self) -> float:
        """The largest update ratio of the first measured steps: after it there may be no more."""
        early = self.update_ratios[:_SHORT]
        return float(np.nanmax(early)) if np.isfinite(early).any() else math.nan

    def late_decay(self, decay: float) -> float:
        """What decay is of a gradient that it is added to, by the median layer, at the end."""
        shares = []
        for layer in self.weight_layers:
            taken = decay * self.measured.of(layer, "weight_norm")
            whole = taken + self.measured.of(layer, "weight_gradient")
            shares.append(self._at_the_end(taken / whole))
        return median(np.array(shares))

    def late_decay_of_weights(self, decay: float, rates: Mapping[int, float]) -> float:
        """What decay that acts on the weights is of the updates, at the end.

        rates: by step.
        """
        at_steps = np.array([rates.get(int(step), math.nan) for step in self.measured.steps])
        taken = decay * at_steps  # of the weights, in a step
        return self._at_the_end(taken / (taken + np.nan_to_num(self.update_ratios)))

    @property
    def growth_of_weights(self) -> float:
        """The norm of weights at the end by that at the start, of the median layer."""
        ratios = []
        for layer in self.weight_layers:
            norms = self.measured.of(layer, "weight_norm")
            known = norms[np.isfinite(norms)]
            if len(known) and known[0] > 0:
                ratios.append(known[-1] / known[0])
        return median(np.array(ratios))

    @property
    def late_update(self) -> float:
        """The typical update ratio of the last third."""
        return self._at_the_end(self.update_ratios)

    def at_start(self, column: str) -> dict[str, float]:
        """Return a figure of every layer that has it, before the first step."""
        return self._at(0, column)

    def at_end(self, column: str) -> dict[str, float]:
        """Return a figure of every layer that has it, at the last measured step."""
        return self._at(-1, column)

    def _at(self, place: int, column: str) -> dict[str, float]:
        found = {}
        for layer in self.measured.layers:
            values = self.measured.of(layer, column)
            if len(values) and not math.isnan(values[place]):
                found[layer] = float(values[place])
        return found

    @cached_property
    def hidden_layers(self) -> int:
        """How many layers with weights come before the last."""
        return max(0, len(self.weight_layers) - 1)

    @cached_property
    def has_swung(self) -> bool:
        """Whether the loss in training rose by a tenth and more on its way, or cannot be seen."""
        curve = self.evidence.curve("train_loss")
        if not len(curve) or np.isnan(curve).all():
            curve = np.array(self.evidence.step_losses, dtype=float)
            curve = np.array([part.mean() for part in np.array_split(curve, _PARTS) if len(part)])
        if len(curve) < 3:
            return True
        lowest = np.fmin.accumulate(curve)
        return bool((curve[1:] > _SWING * lowest[:-1]).any())

    @cached_property
    def still_falling(self) -> float:
        """What the loss fell by in an epoch, towards the end: in training or validation, the less.

        One alone may fall by chance. Over the last tenth of the epochs, as a share of the loss; NaN
        for fewer than two epochs.
        """
        falls = [math.nan]
        for name in ("train_loss", "valid_loss"):
            curve = self.evidence.curve(name)
            if len(curve) > 1:
                back = max(1, len(curve) // 10)
                before = curve[-1 - back]
                # Of a loss of 0 there is no share.
                falls.append(float(1 - curve[-1] / before) / back if before else math.nan)
        return float(np.fmin.reduce(falls))


def median(values: Numbers) -> float:
    """Return the median of what is finite; NaN where nothing is."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan
