"""How well the strategies of `danlu tune` search, at equal numbers of trials: python benchmarks/search.py [--seeds 20]

Digits, a dense net of one layer, four fields (learning rate, momentum, dropout, units), 48 trials of five epochs. Every
strategy is run with the same seeds; told are the best validation accuracy, the test accuracy of that winner, the epochs
that were trained, and what Bayes and halving gain over random search, paired, with its interval.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import danlu
from danlu.statistics import estimate, p_value

SPACE = ["lr=1e-6..10:log", "momentum=0..0.99", "model.dropout=0..0.5", "model.hidden=8,16,32,64"]
BASE = danlu.Recipe(model="dense", optimizer="momentum", epochs=5, batch_size=32)
TRIALS = 48


def search(data, strategy, seed):
    """(best validation accuracy, the winner's test accuracy, epochs trained, seconds)."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = danlu.tune(
            data,
            SPACE,
            recipe=BASE,
            trials=TRIALS,
            strategy=strategy,
            seed=seed,
            out=Path(folder) / "study",
        )
        seconds = time.perf_counter() - start
        epochs = sum(m.get("result", {}).get("epochs", 0) for m in found.study.members.values())
        return found.ranked[0].figure, found.winner["test_accuracy"], epochs, seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    seeds = range(parser.parse_args().seeds)
    data = danlu.load("digits")
    strategies = ("random", "bayes", "halving")
    found = {s: [] for s in strategies}
    for seed in seeds:
        for s in strategies:
            found[s].append(search(data, s, seed))
    print(f"{TRIALS} trials, {len(seeds)} seeds\n")
    print(
        "| | best validation accuracy | gain over random, points | p | its test accuracy | gain | p | epochs | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for s in strategies:
        columns = list(zip(*found[s], strict=True))
        cells = []
        for k in (0, 1):
            gaps = [100 * (a[k] - b[k]) for a, b in zip(found[s], found["random"], strict=True)]
            e = estimate(gaps)
            gain = (
                f"{e.mean:+.2f} ({e.low:+.2f} to {e.high:+.2f}) | {p_value(gaps):.4f}"
                if s != "random"
                else " | "
            )
            cells.append(f"{100 * estimate(columns[k]).mean:.2f} % | {gain}")
        print(
            f"| {s} | {' | '.join(cells)} | {estimate(columns[2]).mean:.0f} | {estimate(columns[3]).mean:.1f} |"
        )


if __name__ == "__main__":
    main()
