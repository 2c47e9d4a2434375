"""What measuring costs: trainings with probes off and light, interleaved, by their own seconds.

    python benchmarks/probes.py [--repeats 5] [--only NAME]

Timed are the seconds of training that a run or study says, without loading and reports. The same
recipe on the same data; the two take turns, and the order changes from pair to pair. MNIST,
CIFAR-10 and Shakespeare are looked for in DANLU_DATA.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from measure import machine

from danlu import Data, Recipe, fit, load
from danlu.train import train

TINY = Recipe(model={"name": "dense", "hidden": (8, 8)}, batch_size=64, epochs=10)


def seconds_of_run(recipe: Recipe, data: Data, probes: str) -> float:
    """Train one network; return how long that took."""
    with tempfile.TemporaryDirectory() as folder:
        run = fit(recipe, data, out=Path(folder) / "run", probes=probes)
        return float(run.result["seconds"])


def seconds_of_population(recipe: Recipe, data: Data, probes: str) -> float:
    """Train 64 networks together; return how long that took, planning and folder included."""
    recipes = [recipe.with_(seed=seed) for seed in range(64)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(recipes, data, out=Path(folder) / "study", parts=("valid",), probes=probes)
        return time.perf_counter() - start


CASES: dict[str, tuple[Callable[[Recipe, Data, str], float], Recipe, Callable[[], Data]]] = {
    "784–8–8–10, 10 epochs": (seconds_of_run, TINY, lambda: load("mnist")),
    "the notes' conv net, 3 epochs": (
        seconds_of_run,
        Recipe(model="cnn", batch_size=64, epochs=3),
        lambda: load("mnist"),
    ),
    "ResNet-18 at 32 pixels, 400 steps of 16": (
        seconds_of_run,
        Recipe(model="resnet18", batch_size=16, epochs=2),
        lambda: load("cifar10", limit=3_200),
    ),
    "LSTM of 128 units, 2 epochs": (
        seconds_of_run,
        Recipe(model="lstm", batch_size=32, epochs=2, optimizer="adam"),
        lambda: load("tinyshakespeare"),
    ),
    "64 networks 784–8–8–10, 2 epochs": (
        seconds_of_population,
        TINY.with_(epochs=2),
        lambda: load("mnist"),
    ),
}


def main() -> None:
    """Time each case; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{machine()}\n")
    print("| training | off, s | light, s | light costs | pairs |")
    print("|---|---|---|---|---|")
    for name, (seconds_of, recipe, data_of) in CASES.items():
        if chosen.only not in name:
            continue
        data = data_of()
        seconds_of(recipe.with_(epochs=1), data, "light")
        taken: dict[str, list[float]] = {"off": [], "light": []}
        for repeat in range(chosen.repeats):
            for probes in ("off", "light") if repeat % 2 else ("light", "off"):
                taken[probes].append(seconds_of(recipe, data, probes))
        ratios = [b / a for a, b in zip(taken["off"], taken["light"], strict=True)]
        off, light = statistics.median(taken["off"]), statistics.median(taken["light"])
        spread = f"{100 * (min(ratios) - 1):+.1f} to {100 * (max(ratios) - 1):+.1f} %"
        share = f"{100 * (statistics.median(ratios) - 1):+.1f} %"
        print(f"| {name} | {off:.2f} | {light:.2f} | {share} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
