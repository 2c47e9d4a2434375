"""Choosing the fastest plan for a group, by measuring on the group itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from danlu.data import Data
from danlu.errors import count
from danlu.recipe import Recipe
from danlu.train.dispatch.device import threads_for
from danlu.train.dispatch.plan import Plan, describe
from danlu.train.dispatch.timer import CACHE_BYTES, WayTimer
from danlu.train.dispatch.vectorizable import MakePopulation, why_not_vectorizable
from danlu.train.dispatch.workers import can_fork

_TOO_SHORT = 2.0  # seconds of work below which nothing is measured
_MEASURING_SHARE = 0.03  # of the expected time that measuring may take…
_LEAST_MEASURING = 0.5  # …but at least so many seconds
_SIZES = (1, 4, 8, 16, 64, 256, 1024)  # of populations, to try


@dataclass(frozen=True)
class Resources:
    """What may be used.

    cores: threads of this process; processes: whether to start some. On a cluster every place of
    `places` trains as this one does, `tenants` of them in the memory of one machine.
    """

    cores: int
    processes: bool = True
    places: int = 1
    tenants: int = 1


class Way(NamedTuple):
    """A way of training that is measured."""

    population_size: int
    workers: int
    threads: int

    def __str__(self) -> str:
        way = describe(self.population_size, self.workers)
        return f"{way}, {count(self.threads, 'thread')}"


def choose_plan(
    recipes: Sequence[Recipe],
    make: MakePopulation,
    data: Data,
    device: torch.device,
    resources: Resources,
) -> Plan:
    """Return the fastest way to train these recipes, which share a structure.

    What cannot be vectorised, or not exactly, goes one by one, and the plan's reason says so.
    """
    n, places = len(recipes), resources.places
    if n == 1:
        threads = min(resources.cores, threads_for(recipes[0], data))
        return Plan(1, 1, 1, threads, "a single network")
    timer = WayTimer(recipes, make, data, device, resources.tenants)
    alone = timer.seconds_per_step(1, 1, 1)
    timer.forget_time_spent()  # the first steps of all bring everything into memory
    objection = why_not_vectorizable(recipes, make, timer.batches)
    work = alone * sum(recipe.epochs for recipe in recipes) * timer.batches.steps
    if work < _TOO_SHORT and not objection:
        size = min(math.ceil(n / places), timer.most_at_once(n))
        return Plan(n, size, places, 1, f"about {work:.1f} s of work, too little to measure")

    most = 1 if objection else timer.most_at_once(n)
    measured = _measure(timer, n, most, alone, work, resources)

    def total_time(way: Way) -> float:
        return _slots(n, way.population_size, way.workers * places) * measured[way]

    best = min(measured, key=total_time)
    workers = best.workers * places
    return Plan(
        n,
        _even_size(n, best.population_size, workers),
        workers,
        best.threads,
        objection or f"fastest of {len(measured)} ways measured",
        {str(way): seconds for way, seconds in measured.items()},
        is_surprising=objection is not None,
    )


def _measure(
    timer: WayTimer,
    n: int,
    most: int,
    alone: float,
    work: float,
    resources: Resources,
) -> dict[Way, float]:
    """Return seconds of a network's step in several ways, as long as measuring pays off.

    alone: those of one by itself; work: of all together in that way.
    """
    measured = {Way(1, 1, 1): alone}
    ideal = CACHE_BYTES / timer.bytes_per_network
    may_fork = resources.processes and timer.device.type == "cpu" and can_fork()
    n_of_place = math.ceil(n / resources.places)
    for way in _ways_to_try(n_of_place, most, ideal, resources.cores, may_fork):
        expected = work * min(measured.values()) / alone
        affordable = max(_LEAST_MEASURING, _MEASURING_SHARE * expected)
        # Without a budget, a short study would be measured for longer than it trains.
        if timer.seconds_spent > affordable:
            break
        if way not in measured:
            measured[way] = timer.seconds_per_step(*way)
    return measured


def _rounds(n: int, size: int, workers: int) -> int:
    """Return how many times all workers take a population each, until n networks are trained."""
    return math.ceil(n / (size * workers))


def _even_size(n: int, size: int, workers: int) -> int:
    """Return the population size that cuts n networks evenly into as many rounds as that one."""
    populations = _rounds(n, size, workers) * workers
    return math.ceil(n / populations)


def _slots(n: int, size: int, workers: int) -> int:
    """Return the networks that the rounds have room for: empty slots cost as much as others."""
    return _rounds(n, size, workers) * _even_size(n, size, workers) * workers


def fastest_seconds_per_step(
    recipes: Sequence[Recipe],
    make: MakePopulation,
    data: Data,
    device: torch.device,
    cores: int,
) -> float:
    """Return seconds of a network's step in what is likely a good way, from one measurement."""
    timer = WayTimer(recipes, make, data, device)
    size = 1
    if len(recipes) > 1 and not why_not_vectorizable(recipes, make, timer.batches):
        size = min(len(recipes), timer.most_at_once(32))
    return timer.seconds_per_step(size, 1, cores)


def _ways_to_try(n: int, most: int, ideal: float, cores: int, may_fork: bool) -> Iterator[Way]:
    """Yield ways for n networks, the likeliest to be fast first."""
    workers = cores if may_fork else 1
    candidates = {*_SIZES, n, math.ceil(n / workers)}
    sizes = [size for size in candidates if size <= min(n, most)]

    def distance(size: int) -> tuple[float, int]:
        """Return how far a population is from just filling the cache, likely the fastest."""
        return abs(math.log(size / ideal)), size

    for size in sorted(sizes, key=distance):
        suffices_for_workers = size * workers <= min(n + 1, most)
        if workers > 1 and (size == 1 or suffices_for_workers):
            yield Way(size, workers, 1)
        yield Way(size, 1, cores)
