"""Measures the networks of a training at some of their updates.

Before such an update a sample is passed through a copy of the networks; after it gradient and
weights are looked at. Nothing of that touches the training.

Legend: M networks.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from danlu.data import Data
from danlu.runs.measurements import OFF, Measurements
from danlu.train.batches import BatchStream
from danlu.train.engine.loop import Loop
from danlu.train.engine.population import Population
from danlu.train.probes.observer import PopulationObserver
from danlu.train.probes.sample import examples_in_half
from danlu.train.probes.schedule import Schedule
from danlu.train.probes.table import Level


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
        self._observer: PopulationObserver | None = None
        self._observed: Any = None  # the networks it looks at
        self._schedules: dict[tuple[int, Schedule], list[int]] = {}

    def next_step(self, population: Population, step: int) -> int:
        """Return the first step of the population that is measured, from a step on."""
        if self._observed is not population.networks:
            # Copied anew when their company changes.
            self._observed, self._observer = population.networks, None
            self._schedules = self._schedules_of(population)
        while not self._due(step, population):
            step += 1
        return step

    def before_step(self, loop: Loop) -> None:
        """Pass the sample through the networks, before a step that is measured."""
        population = loop.population
        due = self._due(loop.steps, population)
        rows = [i for i in due if not loop.members[i].diverged]
        if not rows:
            return
        if self._observer is None:
            self._observer = PopulationObserver(population, self.data, self.batches, self.level)
        steps = [loop.steps - start for start in population.networks.start_steps]
        self._observer.begin(population, steps, rows)
        population.observer = self._observer

    def after_step(self, loop: Loop) -> None:
        """Keep what was measured around a step, which is not counted yet."""
        population = loop.population
        observer = self._observer
        if population.observer is None or observer is None:
            return
        population.observer = None
        observer.end(population, loop.steps)
        members = [loop.members[i].index for i in observer.rows]
        steps = [observer.steps[i] for i in observer.rows]
        epochs = [step / self.batches.steps for step in steps]
        for layer, figures in observer.figures().items():
            self.found.add(layer, members, observer.rows, steps, epochs, figures)

    def last_finite(self, i: int, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of network i, or where they are not finite, those last measured."""
        if self._observer is None or _is_finite(weights):
            return weights
        measured = self._observer.networks.stack.state_dict(i)
        return measured if _is_finite(measured) else weights

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return self.found.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.found.restore(tensors)

    def _schedules_of(self, population: Population) -> dict[tuple[int, Schedule], list[int]]:
        """Return the networks of each schedule, and of each update that it counts from."""
        schedules: dict[tuple[int, Schedule], list[int]] = {}
        per_epoch = population.accumulator.updates_per_epoch
        for i, start in enumerate(population.optimizer.start_updates):
            recipe = population.recipes[i]
            sample = 2 * examples_in_half(recipe.batch_size)
            times = sample / (recipe.batch_size * recipe.accumulate)
            schedule = Schedule.of(per_epoch, recipe.epochs, self.level, times)
            schedules.setdefault((start, schedule), []).append(i)
        return schedules

    def _due(self, step: int, population: Population) -> list[int]:
        """Return the networks of which a step of the population is measured."""
        accumulator = population.accumulator
        if not accumulator.completes(step):
            return []
        update = accumulator.updates_before(step)
        rows = []
        for (start, schedule), members in self._schedules.items():
            if schedule.is_due(update - start):
                rows += members
        return sorted(rows)


def _is_finite(tensors: dict[str, Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())
