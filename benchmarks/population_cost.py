"""What a network of a population costs, against the size of the population, and the depth and width of the network.

    python benchmarks/population_cost.py [--repeats 3] [--figure benchmarks/population_cost.svg]

Dense nets on MNIST by SGD, every network its own learning rate, all seeing the same batches; against the same network
alone in a plain PyTorch loop. Measured as benchmarks/population.py does: a process for each, repeats interleaved, danlu
with all it does from choosing how to train to writing the study, over some seconds of training.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

from population import measure, median

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PANELS = {  # title: (legend, [(what is told of x, case, networks)])
    "networks in the population": [
        ("784–8–8–10, batch 64", [(m, "8x2b64", m) for m in SIZES]),
        ("784–5×100–10, batch 100", [(m, "100x5b100", m) for m in SIZES[:-2]]),
    ],
    "hidden layers (of 100 units, batch 100, 32 networks)": [
        ("", [(d, f"100x{d}b100", 32) for d in (1, 2, 5, 10, 20)]),
    ],
    "units of each of two hidden layers (batch 64, 32 networks)": [
        ("", [(w, f"{w}x2b64", 32) for w in (8, 16, 32, 64, 128, 256, 512, 1024)]),
    ],
}


def run(repeats):
    """{(peer, case, networks): median seconds of a network and step}, and danlu's ways."""
    points = {(case, m) for lines in PANELS.values() for _, line in lines for _, case, m in line}
    jobs = [("loop-short", case, 1) for case in sorted({c for c, _ in points})] + [
        ("danlu-short", c, m) for c, m in sorted(points)
    ]
    found, ways = {}, {}
    for repeat in range(repeats):
        for job in jobs:
            value = measure(*job)
            if isinstance(value, list):
                value, ways[job] = value
            found.setdefault(job, []).append(value)
            print(f"{repeat + 1}/{repeats} {job}: {value}", file=sys.stderr, flush=True)
    return {job: median(values) for job, values in found.items()}, ways


def tables(found, ways):
    import torch

    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    yield f"machine: {os.cpu_count()} cores, {platform.machine()}; {versions}"
    for title, lines in PANELS.items():
        for legend, line in lines:
            yield f"\n{legend + ': ' if legend else ''}{title}\n"
            yield "| | PyTorch loop, µs a step | danlu, µs a network and step | × | way |\n|---|---|---|---|---|"
            for x, case, m in line:
                loop, own = found["loop-short", case, 1], found["danlu-short", case, m]
                way = ways["danlu-short", case, m]
                yield f"| {x} | {1e6 * loop:.0f} | {1e6 * own:.1f} | {loop / own:.1f} | {way} |"


def draw(found, path):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "danlu", "font.size": 9})
    figure, axes = plt.subplots(1, len(PANELS), figsize=(15, 4.6), layout="constrained")
    for axis, (title, lines) in zip(axes, PANELS.items(), strict=True):
        for colour, (legend, line) in zip(("#1f6feb", "#d1570c"), lines, strict=False):
            xs = [x for x, *_ in line]
            for peer, style, name in (
                ("loop-short", "--", "PyTorch loop"),
                ("danlu-short", "o-", "danlu"),
            ):
                ys = [1e6 * found[peer, c, 1 if peer == "loop-short" else m] for _, c, m in line]
                axis.plot(xs, ys, style, color=colour, label=f"{legend}: {name}".strip(": "))
        axis.set(xscale="log", yscale="log", xlabel=title)
        axis.set_xticks(xs := sorted({x for _, line in lines for x, *_ in line}), xs, minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    axes[0].set_ylabel("µs of a network and step")
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--figure", default=str(Path(__file__).with_suffix(".svg")))
    given = parser.parse_args()
    found, ways = run(given.repeats)
    print("\n".join(tables(found, ways)))
    draw(found, given.figure)


if __name__ == "__main__":
    main()
