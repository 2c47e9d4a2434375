"""A few steps of a group, to see how fast a way of training is; thrown away afterwards."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from danlu.data import Data
from danlu.host import compute_threads
from danlu.recipe import Recipe
from danlu.train.batches import BatchStream
from danlu.train.dispatch.memory import free_memory, is_out_of_memory
from danlu.train.dispatch.vectorizable import MakePopulation
from danlu.train.dispatch.workers import DONE, run_workers
from danlu.train.engine.population import Population
from danlu.train.forward.modules import VmapForward

# Bytes of a population that is likely the fastest size: it lives in the caches.
CACHE_BYTES = 12 << 20
_MEMORY_SHARE = 0.5  # of the free memory that a group may fill
_LEAST_STEPS = 3
_ENDLESS = float("inf")


class WayTimer:
    """Measures ways of training a group.

    tenants: groups that share the memory of one machine.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        make: MakePopulation,
        data: Data,
        device: torch.device,
        tenants: int = 1,
    ) -> None:
        self.recipes, self.make, self.device, self.tenants = recipes, make, device, tenants
        self.batches = BatchStream(recipes, data, device)
        self.seconds_spent = 0.0
        self.bytes_per_network = float(CACHE_BYTES)

    def forget_time_spent(self) -> None:
        """Do not count the time that measuring took so far."""
        self.seconds_spent = 0.0

    def seconds_per_step(
        self, population_size: int, workers: int, threads: int, seconds: float = 0.06
    ) -> float:
        """Return seconds of a network's step that way; infinite where memory does not suffice."""
        began = time.perf_counter()

        def work(send: Any = None) -> float:
            try:
                with compute_threads(threads):
                    population = self.make(self.recipes[:population_size])
                    return self._seconds_of_a_step(population, seconds)
            except (RuntimeError, MemoryError) as e:
                if not is_out_of_memory(e):
                    raise
                return _ENDLESS

        if workers == 1:
            slowest = work()
        else:
            # Side by side they share caches and memory, so they are measured side by side.
            messages = list(run_workers([work] * workers, workers, lambda: False))
            slowest = max(m.value if m.kind == DONE else _ENDLESS for m in messages)
        self.seconds_spent += time.perf_counter() - began
        return slowest / (population_size * workers)

    def _seconds_of_a_step(self, population: Population, seconds: float) -> float:
        """Return the median time of a step of the whole population, over so many seconds."""
        times: list[float] = []
        last = time.perf_counter()
        for k, batch in enumerate(self._endless_batches(population)):
            population.step(batch, k)
            now = time.perf_counter()
            times.append(now - last)
            last = now
            if k >= _LEAST_STEPS and sum(times[1:]) > seconds:
                break
        settled = sorted(times[1:])  # the first step warms up
        return settled[len(settled) // 2]

    def _endless_batches(self, population: Population) -> Any:
        recipes, counts = population.recipes, population.networks.counts
        for epoch in itertools.count():
            yield from self.batches.epoch(recipes, [epoch] * len(recipes), 0, counts)

    def most_at_once(self, n: int) -> int:
        """Return how many of n networks fit into the free memory at once."""
        try:
            return self._most_at_once(n)
        except (RuntimeError, MemoryError) as e:
            if not is_out_of_memory(e):
                raise
            return 1

    def _most_at_once(self, n: int) -> int:
        """Return how many of n networks the memory holds, by what two of them take."""
        pair = self.make(self.recipes[:2])
        no_epochs = [0, 0]
        batches = self.batches.epoch(pair.recipes, no_epochs, 0, pair.networks.counts)
        batch = next(batches)
        pair.set_batch_layout(batch.segments)
        # Parameters, gradients, the update's temporaries, the optimiser's state.
        vectors = 4 + len(pair.optimizer.state)
        weights = pair.stack.theta.nbytes * vectors
        # What is kept, its gradients, and what operations need meanwhile.
        activations = 3 * _bytes_kept_by_forward(pair, batch.x)
        self.bytes_per_network = (weights + activations) / pair.members
        room = _MEMORY_SHARE * free_memory(self.device) / self.tenants
        fitting = int(room / self.bytes_per_network)
        return max(1, min(n, fitting))


def _bytes_kept_by_forward(population: Population, x: Tensor) -> float:
    """Return the bytes that a forward pass keeps for the backward pass."""
    sizes: dict[int, int] = {}  # by address, as several tensors may share their memory

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    def note_all(value: Any) -> None:
        if isinstance(value, Tensor):
            note(value)
        elif isinstance(value, (list, tuple)):
            for item in value:
                note_all(item)

    population.set_random_streams(0)
    if isinstance(population.forward_pass, VmapForward):
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            population.forward_pass.forward(x)
    else:
        with torch.no_grad():
            _, saved = population.forward_pass.forward(x)
            note_all(saved)
    return float(sum(sizes.values()))
