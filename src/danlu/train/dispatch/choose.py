"""Choosing how a group is trained: by a model of what its steps cost, never by timing them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from danlu.data import Data
from danlu.errors import count
from danlu.memory import is_out_of_memory
from danlu.recipe import Recipe
from danlu.train.batches import BatchStream
from danlu.train.dispatch.device import threads_for
from danlu.train.dispatch.footprint import bytes_of_network, most_at_once
from danlu.train.dispatch.operations import StepWork
from danlu.train.dispatch.plan import Plan, describe
from danlu.train.dispatch.speeds import speeds
from danlu.train.dispatch.vectorizable import MakePopulation, why_not_vectorizable
from danlu.train.dispatch.workers import can_fork

_TOO_SHORT = 1.0  # seconds of work below which starting processes takes longer than they save
_NEARLY_BEST = 1.03  # a smaller population is as good, and takes less memory
_SIZES = tuple(2**k for k in range(13))  # of populations, to consider


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
    """A way of training."""

    population_size: int
    workers: int
    threads: int

    def __str__(self) -> str:
        way = describe(self.population_size, self.workers)
        return f"{way}, {count(self.threads, 'thread')}"


class StepCosts:
    """What a step of a group's networks takes, by the way of training."""

    def __init__(
        self,
        recipes: Sequence[Recipe],
        make: MakePopulation,
        data: Data,
        device: torch.device,
    ) -> None:
        self.device = device
        self.batches = BatchStream(recipes, data, device)
        self.objection = None
        if len(recipes) > 1:
            self.objection = why_not_vectorizable(recipes, make, self.batches)
        self.work = StepWork(recipes, make, self.batches, vectorizable=not self.objection)
        self.bytes_of_each = 0.0
        if len(recipes) > 1 and not self.objection:
            self.bytes_of_each = bytes_of_network(recipes, make, self.batches)

    def seconds(self, way: Way) -> float:
        """Return seconds of a network's step."""
        work, kind = self.work.of(way.population_size)
        working_set = way.population_size * self.bytes_of_each
        machine = speeds(self.device, way.threads)
        step = machine.seconds(work, kind, working_set)
        return step / (way.population_size * way.workers)


def choose_plan(
    recipes: Sequence[Recipe],
    make: MakePopulation,
    data: Data,
    device: torch.device,
    resources: Resources,
) -> Plan:
    """Return the fastest way to train these recipes, which share a structure.

    The same on the same machine, whatever else it is doing. What cannot be vectorised, or not
    exactly, goes one by one, and the plan's reason says so.
    """
    n, places = len(recipes), resources.places
    if n == 1:
        threads = min(resources.cores, threads_for(recipes[0], data))
        return Plan(1, 1, 1, threads, "a single network")
    try:
        costs = StepCosts(recipes, make, data, device)
    except (RuntimeError, MemoryError) as e:
        if not is_out_of_memory(e):
            raise
        return Plan(n, 1, places, 1, "memory does not suffice for two networks", is_surprising=True)
    alone = costs.seconds(Way(1, 1, 1))
    work = alone * sum(recipe.epochs for recipe in recipes) * costs.batches.steps
    most = 1
    if costs.objection is None:
        most = min(n, most_at_once(costs.bytes_of_each, device, resources.tenants))
        if work < _TOO_SHORT:
            size = min(math.ceil(n / places), most)
            return Plan(n, size, places, 1, f"about {work:.1f} s of work, too little to divide")
    return _fastest(costs, n, most, resources)


def _fastest(costs: StepCosts, n: int, most: int, resources: Resources) -> Plan:
    """Return the plan of the least total time; most: networks that fit into a population."""
    places = resources.places
    may_fork = resources.processes and costs.device.type == "cpu" and can_fork()
    ways = list(_ways(math.ceil(n / places), most, resources.cores, may_fork))
    seconds = {way: costs.seconds(way) for way in ways}

    def total_time(way: Way) -> float:
        return _slots(n, way.population_size, way.workers * places) * seconds[way]

    least = min(map(total_time, ways))
    nearly_best = [way for way in ways if total_time(way) <= _NEARLY_BEST * least]
    best = min(nearly_best, key=lambda way: (way.population_size, total_time(way)))
    workers = best.workers * places
    return Plan(
        n,
        _even_size(n, best.population_size, workers),
        workers,
        best.threads,
        costs.objection or f"the fastest of {len(ways)} ways, by their costs on this machine",
        {str(way): seconds[way] for way in ways},
        is_surprising=costs.objection is not None,
    )


def _ways(n: int, most: int, cores: int, may_fork: bool) -> Iterator[Way]:
    """Yield the ways to train n networks; most: of them that fit into a population."""
    workers = cores if may_fork else 1
    sizes = {*_SIZES, n, math.ceil(n / workers)}
    for size in sorted(size for size in sizes if size <= min(n, most)):
        fits_beside = size == 1 or size * workers <= most
        if workers > 1 and size * (workers - 1) < n and fits_beside:
            yield Way(size, workers, 1)
        for threads in sorted({1, cores}):
            yield Way(size, 1, threads)


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


def expected_seconds_per_step(
    recipes: Sequence[Recipe],
    make: MakePopulation,
    data: Data,
    device: torch.device,
    cores: int,
) -> float:
    """Return seconds of a network's step in what is likely a good way."""
    costs = StepCosts(recipes, make, data, device)
    size = 1
    if len(recipes) > 1 and costs.objection is None:
        size = min(len(recipes), most_at_once(costs.bytes_of_each, device, 1), 32)
    return costs.seconds(Way(size, 1, cores))
