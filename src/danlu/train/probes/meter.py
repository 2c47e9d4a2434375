"""Measures the networks of a training at some of their updates.

Before such an update a sample is passed through a copy of the networks; after it gradient and
weights are looked at. Nothing of that touches the training.

Legend: M networks.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from danlu.data import Data
from danlu.errors import RecipeError, unknown
from danlu.train.batches import BatchStream
from danlu.train.engine.loop import Loop
from danlu.train.engine.population import Population
from danlu.train.probes.schedule import Schedule
from danlu.train.probes.store import Measurements
from danlu.train.probes.table import Level
from danlu.train.probes.watch import Watch

OFF = "off"
LEVELS = (OFF, "light", "full")


def check_level(level: str) -> None:
    """Raise RecipeError for a level of probes that there is not."""
    if level not in LEVELS:
        raise RecipeError(unknown("probes", level, LEVELS))


def meter_of(level: str, data: Data, batches: BatchStream) -> Meter | None:
    """Return what measures at a level, None for "off"."""
    if level == OFF:
        return None
    return Meter(cast(Level, level), data, batches)


class Meter:
    """Takes the probes of a level when they are due, and keeps what they found."""

    def __init__(self, level: Level, data: Data, batches: BatchStream) -> None:
        self.level = level
        self.data = data
        self.batches = batches
        self.found = Measurements()
        self._watch: Watch | None = None
        self._watched: Any = None  # the networks it looks at

    def before_step(self, loop: Loop) -> None:
        """Measure, if the step about to be taken ends with an update that is measured."""
        population = loop.population
        rows = self._due(loop, population)
        if not rows:
            return
        # Copied anew when their company changes.
        if self._watch is None or self._watched is not population.networks:
            self._watch = Watch(population, self.data, self.batches, self.level)
            self._watched = population.networks
        steps = [loop.steps - start for start in population.networks.start_steps]
        self._watch.begin(population, steps, rows)
        population.observer = self._watch

    def after_step(self, loop: Loop) -> None:
        """Keep what was measured around a step."""
        population = loop.population
        watch = self._watch
        if watch is None or population.observer is None:
            return
        population.observer = None
        watch.end(population, loop.steps)
        members = [loop.members[i].index for i in watch.rows]
        steps = [watch.steps[i] for i in watch.rows]
        epochs = [step / self.batches.steps for step in steps]
        for layer, figures in watch.figures().items():
            self.found.add(layer, members, watch.rows, steps, epochs, figures)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return self.found.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.found.restore(tensors)

    def _due(self, loop: Loop, population: Population) -> list[int]:
        """Return the networks of which the coming step is measured."""
        accumulator = population.accumulator
        if not accumulator.completes(loop.steps):
            return []
        update = accumulator.updates_before(loop.steps)
        due: dict[tuple[int, int], bool] = {}
        rows = []
        for i, start in enumerate(population.optimizer.start_updates):
            epochs = population.recipes[i].epochs
            key = (start, epochs)
            if key not in due:
                schedule = Schedule.of(accumulator.updates_per_epoch, epochs)
                due[key] = schedule.is_due(update - start)
            if due[key] and not loop.members[i].diverged:
                rows.append(i)
        return rows
