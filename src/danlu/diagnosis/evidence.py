"""What is known of a training: what rules look at.

Legend: S measured steps, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from danlu.data import Data, Schema
from danlu.diagnosis.data_evidence import DataEvidence, Numbers
from danlu.diagnosis.headline import predicted_of
from danlu.diagnosis.network_checks import NetworkEvidence
from danlu.diagnosis.settings import Settings
from danlu.metrics import Predicted
from danlu.nn.information import entropy
from danlu.recipe import Recipe
from danlu.recipe.sample import examples_seen
from danlu.runs import Run
from danlu.runs.measurements import WHOLE
from danlu.train.probes.loop_notes import LoopNotes


@dataclass(frozen=True)
class Measured:
    """The measurements of one network, column by column."""

    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.columns)

    @cached_property
    def layers(self) -> list[str]:
        """The layers in the order in which examples pass through them."""
        names = dict.fromkeys(self.columns.get("layer", ()))
        names.pop(WHOLE, None)
        # Layers that no tap sees, such as a CRF, have weights alone, and come last.
        return sorted(names, key=lambda name: not self.has_output(name))

    @property
    def has_passes(self) -> bool:
        """Whether what layers give was seen, not their weights alone."""
        return any(map(self.has_output, self.layers))

    def has_output(self, layer: str) -> bool:
        """Whether what a layer gives was seen."""
        return bool(np.isfinite(self.of(layer, "activation_rms")).any())

    @cached_property
    def _rows(self) -> Mapping[str, Sequence[int | None]]:
        """The row of each layer at each measured step; None where it was not seen."""
        steps = {step: k for k, step in enumerate(dict.fromkeys(self.columns["step"]))}
        rows: dict[str, list[int | None]] = {}
        for row, (layer, step) in enumerate(
            zip(self.columns["layer"], self.columns["step"], strict=True)
        ):
            rows.setdefault(layer, [None] * len(steps))[steps[step]] = row
        return rows

    def _of(self, layer: str, column: str) -> list[Any]:
        if column not in self.columns or layer not in self._rows:
            return []
        values = self.columns[column]
        return [None if row is None else values[row] for row in self._rows[layer]]

    def of(self, layer: str, column: str) -> Numbers:
        """Return a figure of a layer at each measured step [S]; NaN where there is none."""
        values = self._of(layer, column)
        return np.array([math.nan if v is None else v for v in values], dtype=float)

    def lists(self, layer: str, column: str) -> list[Numbers]:
        """Return a list of a layer at each measured step; of length 0 where there is none."""
        return [np.array(value or (), dtype=float) for value in self._of(layer, column)]

    def whole(self, column: str) -> Numbers:
        """Return a figure of the network as a whole at each measured step [S]."""
        return self.of(WHOLE, column)

    @cached_property
    def steps(self) -> Numbers:
        """The measured steps [S]."""
        return self.whole("step")


@dataclass(frozen=True)
class Evidence:
    """A training as rules see it; what is None or empty is not known.

    history: a row per epoch. result: final figures. sizes: of the parts. diverged_at: the step.
    predicted: on the last part that was read. network: of somebody's own, where it is at hand.
    observed: settings of a loop that has no recipe; loop: what it did; step_losses: of each of its
    steps. unmoved: weights of it that nothing updates; matrices: its layers with more than biases
    and scales.
    constant_loss: that of the best constant answer, where classes do not tell it;
    is_chance_guessed: whether the first losses of a loop stand for it. target_error: that can be
    reached, where somebody knows it.
    """

    history: Sequence[Mapping[str, Any]] = ()
    result: Mapping[str, Any] = field(default_factory=dict)
    measured: Measured = field(default_factory=Measured)
    recipe: Recipe | None = None
    schema: Schema | None = None
    class_counts: Sequence[int] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    diverged_at: int | None = None
    predicted: Predicted | None = None
    data: DataEvidence | None = None
    network: NetworkEvidence | None = None
    observed: Settings | None = None
    loop: LoopNotes | None = None
    step_losses: Sequence[float] = ()
    unmoved: Sequence[str] = ()
    matrices: frozenset[str] | None = None
    constant_loss: float | None = None
    is_chance_guessed: bool = False
    target_error: float | None = None

    @classmethod
    def of(cls, run: Run, data: Data | None = None, target_error: float | None = None) -> Evidence:
        """Return what a run has left; data: those it was trained on, where they are at hand."""
        info, about = run.info, run.data_info
        table = run.measured()
        return cls(
            run.history,
            run.result,
            Measured(table.to_pydict()),
            run.recipe,
            run.schema,
            about["class_counts"],
            about["sizes"],
            info.get("step") if run.status == "diverged" else run.result.get("diverged_step"),
            predicted_of(run),
            None if data is None else DataEvidence(data),
            NetworkEvidence.of(run, data),
            target_error=target_error,
        )

    @cached_property
    def settings(self) -> Settings:
        """How it was trained, as far as that is known."""
        if self.recipe is not None:
            return Settings.of_recipe(self.recipe)
        return self.observed or Settings()

    @property
    def examples(self) -> int:
        """How many training examples the network sees: of a sample, those that count."""
        n = self.sizes.get("train", 0)
        return n if self.recipe is None else examples_seen(self.recipe.sample, n)

    @property
    def metric(self) -> str:
        """The figure that its kind of targets is judged by; of a loop, accuracy."""
        return "accuracy" if self.schema is None else self.schema.metric

    @property
    def is_running_text(self) -> bool:
        """Whether it learns what follows what in a text."""
        return self.schema is not None and self.schema.task == "language"

    @property
    def has_diverged(self) -> bool:
        """Whether its loss became NaN or infinite."""
        return self.diverged_at is not None

    @cached_property
    def chance(self) -> float:
        """The loss of the best constant answer, NaN where it is not known.

        The entropy of the classes' shares; the variance of a standardised number.
        """
        if self.constant_loss is not None:
            return self.constant_loss
        if self.schema is not None and self.schema.is_regression:
            return 1.0
        if not sum(self.class_counts):
            return math.nan
        import torch

        counts = torch.tensor(self.class_counts, dtype=torch.float64)
        return float(entropy(counts / counts.sum()))

    @cached_property
    def confusion(self) -> Numbers | None:
        """How often each class [K, truth] was taken for each [K], on the last part that was read.

        None where classes are not what is predicted, or that is not kept.
        """
        if self.predicted is None or self.schema is None or self.schema.is_regression:
            return None
        known = self.predicted.targets >= 0
        k = self.schema.outputs
        pairs = self.predicted.targets[known] * k + self.predicted.chosen[known]
        return np.bincount(pairs, minlength=k * k).reshape(k, k).astype(float)

    def curve(self, name: str) -> Numbers:
        """Return a column of the history [epochs]; NaN where there is none."""
        values = [row.get(name) for row in self.history]
        return np.array([math.nan if v is None else v for v in values], dtype=float)

    def final(self, name: str) -> float:
        """Return a final figure, such as test_loss; NaN where there is none."""
        value = self.result.get(name)
        return math.nan if value is None else float(value)
