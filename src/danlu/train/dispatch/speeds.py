"""How fast a machine is: measured once, and kept.

Everything that is chosen by speed goes by these numbers, never by a timing of the moment: so equal
commands on one machine train their networks together in equal ways, and end in equal bits.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import torch

from danlu.data import Schema
from danlu.data.memmap import cache_folder
from danlu.errors import DanluError
from danlu.files import read_json, write_json
from danlu.host import compute_threads
from danlu.recipe import Recipe
from danlu.recipe.build import build_model
from danlu.train.batches import StepBatch
from danlu.train.dispatch.operations import CHAIN, SINGLE, VMAP, Work, count_step
from danlu.train.engine.networks import TrainingSpec
from danlu.train.engine.population import Population

FORMAT = 1
_MEGABYTES = (1, 4, 16, 64)  # working sets whose bandwidth is measured
_PATIENCE = 30.0  # seconds, for another process to measure
_NOTHING: dict[str, Any] = {}  # in the place of numbers that are being measured
_SECONDS = 0.04  # of each measurement; the fastest of its repetitions counts
_SIDE = 384  # of the matrices whose product is timed
# Tiny networks: of their steps nearly all is calls.
_TINY = Recipe(model={"name": "dense", "hidden": (4, 4)}, batch_size=8, optimizer="sgd")
_BY_AUTOGRAD = "cross-entropy-explicit"  # a loss without a gradient in closed form


@dataclass(frozen=True)
class Speeds:
    """Seconds that a machine takes, on some threads.

    call: of a kernel's call, by kind of population. product: of starting a product among many.
    multiply_add: of one in a matrix product. byte: of moving one, by the megabytes of the working
    set.
    """

    call: Mapping[str, float]
    product: float
    multiply_add: float
    byte: Mapping[str, float]

    def seconds(self, work: Work, kind: str, working_set: float) -> float:
        """Return what a step takes; working_set: bytes that it comes back to."""
        calls = work.calls * self.call[kind]
        products = work.products * self.product + work.multiply_adds * self.multiply_add
        return calls + products + work.bytes_moved * self.seconds_per_byte(working_set)

    def seconds_per_byte(self, working_set: float) -> float:
        """Return what moving a byte takes, between the measured sizes in proportion."""
        size = max(working_set / 2**20, _MEGABYTES[0])
        if size >= _MEGABYTES[-1]:
            return self.byte[str(_MEGABYTES[-1])]
        for low, high in itertools.pairwise(_MEGABYTES):
            if size <= high:
                way = math.log(size / low) / math.log(high / low)
                a, b = self.byte[str(low)], self.byte[str(high)]
                return a + way * (b - a)
        raise AssertionError("every size lies between two of the table")


def speeds(device: torch.device, threads: int) -> Speeds:
    """Return the machine's speeds: from its file, or measured now and kept there.

    Where nothing can be kept, typical numbers serve: measured anew, they would differ each time.
    """
    try:
        file = _file(device)
        kept = _read(file)
        name = str(threads)
        if name not in kept:
            # Of processes that begin together the first measures, and the others wait for it.
            with filelock.FileLock(file.with_suffix(".lock"), timeout=_PATIENCE):
                kept = _read(file)
                if name not in kept:
                    write_json(file, {**kept, name: _NOTHING})  # whether it can be kept at all
                    kept = {**kept, name: asdict(measure(device, threads))}
                    write_json(file, kept)
        if kept[name] == _NOTHING:
            return _TYPICAL
        return Speeds(**kept[name])
    except (OSError, DanluError, TypeError, filelock.Timeout):
        return _TYPICAL


def _file(device: torch.device) -> Path:
    machine = [
        FORMAT,
        torch.__version__,
        platform.machine(),
        _processor(),
        os.cpu_count(),
        device.type,
    ]
    if device.type == "cuda":
        machine.append(torch.cuda.get_device_name(device))
    digest = hashlib.blake2b(json.dumps(machine).encode(), digest_size=6).hexdigest()
    return cache_folder("speeds") / f"{digest}.json"


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _read(file: Path) -> dict[str, Any]:
    try:
        kept = read_json(file)
    except (OSError, DanluError):
        return {}
    return kept if isinstance(kept, dict) else {}


def measure(device: torch.device, threads: int) -> Speeds:
    """Return the machine's speeds as they are now, the fastest of several measurements of each."""
    with compute_threads(threads):
        call = {}
        for kind in (CHAIN, VMAP, SINGLE):
            call[kind] = _seconds_of_call(kind, device)
        a = torch.ones(_SIDE, _SIDE, device=device)
        multiply_add = _fastest(lambda: torch.mm(a, a), device) / _SIDE**3
        few, many = (torch.ones(n, 8, 8, device=device) for n in (8, 520))
        of_few = _fastest(lambda: torch.bmm(few, few), device)
        of_many = _fastest(lambda: torch.bmm(many, many), device)
        byte = {}
        for size in _MEGABYTES:
            x = torch.zeros(size << 17, device=device)  # half of the working set
            y = torch.zeros_like(x)
            moved = 3 * x.nbytes  # two are read, one is written
            byte[str(size)] = _fastest(lambda x=x, y=y: x.add_(y), device) / moved  # type: ignore[misc]
        return Speeds(call, max(of_many - of_few, 0) / 512, multiply_add, byte)


def _fastest(act: Callable[[], Any], device: torch.device) -> float:
    """Return the least time that something takes, of as many times as fit."""
    fastest = math.inf
    began = time.perf_counter()
    while True:
        start = time.perf_counter()
        act()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        fastest = min(fastest, now - start)
        if now - began > _SECONDS:
            return fastest


def _seconds_of_call(kind: str, device: torch.device) -> float:
    members = 1 if kind == SINGLE else 4
    recipe = _TINY if kind == CHAIN else _TINY.with_([f"loss={_BY_AUTOGRAD}"])
    schema = Schema("classification", (4,), ("a", "b", "c"))
    spec = TrainingSpec((4,), 8, 1, True, device)
    recipes = [recipe.with_(seed=seed) for seed in range(members)]
    population = Population(recipes, lambda r: build_model(r, schema), spec)
    x = torch.linspace(-1, 1, 32, device=device).view(1, 8, 4)
    y = torch.arange(8, device=device).remainder(3).unsqueeze(0)
    batch = StepBatch(x, y, None, [(0, members)], starts_epoch=False)
    population.step(batch, 0)
    work = count_step(population, batch, 1)
    steps = itertools.count(2)
    return _fastest(lambda: population.step(batch, next(steps)), device) / work.calls


# Of a laptop: for machines on which nothing can be kept.
_TYPICAL = Speeds(
    call={CHAIN: 7e-6, VMAP: 2.5e-5, SINGLE: 1.4e-5},
    product=5e-7,
    multiply_add=3e-11,
    byte={"1": 5e-11, "4": 6e-11, "16": 1e-10, "64": 1.5e-10},
)
