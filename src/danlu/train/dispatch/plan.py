"""How to train a group: vectorised, side by side on the cores, or one by one; measured on the group itself."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from danlu.data import Data
from danlu.recipe import Recipe
from danlu.train.batches.batch_stream import BatchStream
from danlu.train.dispatch.memory import free_memory, out_of_memory
from danlu.train.dispatch.preflight import threads, threads_for
from danlu.train.dispatch.vectorizable import Make, objection
from danlu.train.dispatch.workers import available, run
from danlu.train.engine.population import Population
from danlu.train.forward.modules import VmapForward

_SHORT = 2.0  # seconds of work below which nothing is measured
_SHARE = 0.03  # of the expected time that measuring may take
_CACHES = 12 << 20  # bytes of a population that is likely the fastest size: it lives in the caches
_ROOM = 0.5  # share of the free memory that a group may fill


@dataclass
class Plan:
    """For so many members: populations of `chunk` networks, `workers` of them at a time, each on `threads` threads."""

    members: int
    chunk: int
    workers: int
    threads: int
    why: str
    paces: dict[str, float] = field(default_factory=dict)  # seconds of a network's step, by way
    where: str = "here"  # or "ray": on a cluster
    portion: int = (
        0  # members of a chunk: `chunk`, or more where those who wait take the places that get free
    )
    noted: bool = False  # whether `why` is something to tell the user unasked
    calm: bool = False  # nothing beside it: memory did not suffice

    @property
    def way(self) -> str:
        """The way in words."""
        if self.where == "ray":
            return f"on a Ray cluster, {self.workers} tasks at a time, {describe(self.chunk, 1)}"
        return describe(self.chunk, self.workers)


def kept(told: Mapping[str, Any]) -> Plan:
    """A plan as a study keeps it, with the number of its group."""
    return Plan(**{k: v for k, v in told.items() if k != "group"})


def describe(chunk: int, workers: int) -> str:
    """A way in words."""
    alone = "one by one" if chunk == 1 else f"vectorised by {chunk}"
    return (
        alone
        if workers == 1
        else f"side by side on {workers} cores" + ("" if chunk == 1 else f", {alone}")
    )


def choose(
    recipes: Sequence[Recipe],
    make: Make,
    data: Data,
    device: torch.device,
    cores: int,
    beside: bool = True,
    places: int = 1,
    tenants: int = 1,
) -> Plan:
    """The fastest way to train these recipes, which share a structure.

    cores: threads that may be used; beside: whether processes may be. On a cluster every place of `places` trains as this
    one does, `tenants` of them in the memory of one machine. What cannot be vectorised, or not exactly, goes one by one,
    and `why` says so.
    """
    n = len(recipes)
    if n == 1:
        return Plan(1, 1, 1, min(cores, threads_for(recipes[0], data)), "a single network")
    trial = _Trial(recipes, make, data, device, tenants)
    alone = trial.pace(1, 1, 1)
    trial.spent.clear()  # the first steps of all bring everything into memory
    note = objection(recipes, make, trial.feed)
    work = alone * sum(r.epochs for r in recipes) * trial.feed.steps
    if work < _SHORT and not note:
        chunk = min(-(-n // places), trial.most(n))
        return Plan(n, chunk, places, 1, f"about {work:.1f} s of work, too little to measure")
    paces = {(1, 1, 1): alone}
    most = 1 if note else trial.most(n)
    for way in _ways(
        -(-n // places), most, _CACHES / trial.each, cores, beside and device.type == "cpu"
    ):
        if sum(trial.spent) > max(0.5, _SHARE * work * min(paces.values()) / alone):
            break
        if way not in paces:
            paces[way] = trial.pace(*way)
    chunk, workers, on = min(paces, key=lambda way: _whole(n, way[0], way[1] * places) * paces[way])
    workers *= places
    chunk = _even(n, chunk, workers)
    said = {_label(*way): pace for way, pace in paces.items()}
    return Plan(
        n,
        chunk,
        workers,
        on,
        note or f"fastest of {len(paces)} ways measured",
        said,
        noted=note is not None,
    )


def _even(n: int, chunk: int, workers: int) -> int:
    """The chunk that cuts n networks evenly into as few rounds as that one does."""
    rounds = -(-n // (chunk * workers))
    return -(-n // (rounds * workers))


def _whole(n: int, chunk: int, workers: int) -> int:
    """Networks that the rounds have room for: places left empty cost as much as others."""
    return -(-n // (chunk * workers)) * _even(n, chunk, workers) * workers


def quickest(
    recipes: Sequence[Recipe], make: Make, data: Data, device: torch.device, cores: int
) -> float:
    """Seconds of a network's step in what is likely a good way, from one measurement."""
    trial = _Trial(recipes, make, data, device)
    chunk = (
        1
        if len(recipes) == 1 or objection(recipes, make, trial.feed)
        else min(len(recipes), trial.most(32))
    )
    return trial.pace(chunk, 1, cores)


def _label(chunk: int, workers: int, n: int) -> str:
    return f"{describe(chunk, workers)}, {n} thread{'s' if n > 1 else ''}"


def _ways(
    n: int, most: int, ideal: float, cores: int, beside: bool
) -> Iterator[tuple[int, int, int]]:
    """(chunk, workers, threads) to try, the likeliest first."""
    side = cores if beside and available() else 1
    sizes = {s for s in (1, 4, 8, 16, 64, 256, 1024, n, -(-n // side)) if s <= min(n, most)}
    for size in sorted(sizes, key=lambda s: abs(math.log(s / ideal))):
        if side > 1 and (size == 1 or size * side <= min(n + 1, most)):
            yield size, side, 1
        yield size, 1, cores


class _Trial:
    """A few steps of the group, thrown away afterwards."""

    def __init__(
        self,
        recipes: Sequence[Recipe],
        make: Make,
        data: Data,
        device: torch.device,
        tenants: int = 1,
    ) -> None:
        self.recipes, self.make, self.device, self.tenants = recipes, make, device, tenants
        self.feed = BatchStream(recipes, data, device)
        self.spent: list[float] = []
        self.each = float(_CACHES)

    def _batches(self, recipes: Sequence[Recipe], counts: Tensor | None) -> Iterator[Any]:
        for e in itertools.count():
            yield from self.feed.epoch(recipes, [e] * len(recipes), 0, counts)

    def _run(self, population: Population, seconds: float) -> float:
        """Seconds of a step of the whole population."""
        recipes = population.recipes
        population.sit(self.feed.segments(recipes, [0] * len(recipes)))
        times: list[float] = []
        last = time.perf_counter()
        for k, (x, y, counts) in enumerate(self._batches(recipes, population.counts)):
            population.step(x, *population.targets(y, counts), k)
            now = time.perf_counter()
            times.append(now - last)
            last = now
            if k >= 3 and sum(times[1:]) > seconds:
                break
        return sorted(times[1:])[len(times[1:]) // 2]

    def pace(self, chunk: int, workers: int, n: int, seconds: float = 0.06) -> float:
        """Seconds of a network's step that way; infinite where memory does not suffice."""
        began = time.perf_counter()

        def work(tell: Any = None) -> float:
            try:
                with threads(n):
                    return self._run(self.make(self.recipes[:chunk]), seconds)
            except (RuntimeError, MemoryError) as e:
                if not out_of_memory(e):
                    raise
                return float("inf")

        if workers == 1:
            slowest = work()
        else:
            ended = list(run([work] * workers, workers, lambda: False))
            slowest = max(value if kind == "done" else float("inf") for _, kind, value in ended)
        self.spent.append(time.perf_counter() - began)
        return slowest / (chunk * workers)

    def most(self, n: int) -> int:
        """How many networks at once fit into the free memory."""
        try:
            return self._most(n)
        except (RuntimeError, MemoryError) as e:
            if not out_of_memory(e):
                raise
            return 1

    def _most(self, n: int) -> int:
        pair = self.make(self.recipes[:2])
        pair.sit(self.feed.segments(pair.recipes, [0, 0]))
        x, *_ = next(self.feed.epoch(pair.recipes, [0, 0], 0, pair.counts))
        state = pair.stack.theta.nbytes * (4 + len(pair.update.state)) / pair.members
        self.each = state + 3 * _kept(pair, x) / pair.members  # bytes
        return max(1, min(n, int(_ROOM * free_memory(self.device) / self.tenants / self.each)))


def _kept(population: Population, x: Tensor) -> float:
    """Bytes that a forward pass keeps for the backward pass."""
    sizes: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    def walk(value: Any) -> None:
        if isinstance(value, Tensor):
            note(value)
        elif isinstance(value, (list, tuple)):
            for v in value:
                walk(v)

    population._draw(0)
    if isinstance(population.passes, VmapForward):
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            population.passes.forward(x)
    else:
        with torch.no_grad():
            walk(population.passes.forward(x)[1])
    return float(sum(sizes.values()))
