"""What danlu costs: time to 99 % on MNIST, time to the first result, cost by rows and by batch size.

    python benchmarks/cost.py [--what 99,start,rows,batch] [--repeats 5]

Cost by rows and batch size stands beside the careful PyTorch loop of benchmarks/fit.py, interleaved.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fit as peers
from measure import machine

DANLU = [sys.executable, "-m", "danlu"]


def time_to_99(repeats):
    """`danlu fit mnist --recipe mnist-99` for each seed: seconds of the whole command, of its training, test accuracy."""
    rows = []
    for seed in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            words = [
                "fit",
                "mnist",
                "--recipe",
                "mnist-99",
                f"seed={seed}",
                "--json",
                "--out",
                f"{folder}/run",
            ]
            done = subprocess.run([*DANLU, *words], capture_output=True, text=True, check=True)
            whole = time.perf_counter() - start
        result = json.loads(done.stdout)["result"]
        rows.append((whole, result["seconds"], result["test_accuracy"]))
        print(seed, rows[-1], file=sys.stderr, flush=True)
    whole, training, accuracy = zip(*rows, strict=True)
    return (
        f"### Time to 99 % on MNIST (`mnist-99`, {repeats} seeds)\n\n"
        f"Whole command, median: {statistics.median(whole):.1f} s (training {statistics.median(training):.1f} s). "
        f"Test accuracies: {', '.join(f'{a:.4f}' for a in accuracy)}; lowest {min(accuracy):.4f}.\n"
    )


def wall(command, until_first_line=False):
    """Seconds of a command, or until it prints its first progress line."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "DANLU_RUNS": folder}
        )
        if until_first_line:
            next(line for line in process.stdout if line.startswith("epoch"))
            seconds = time.perf_counter() - start
            process.communicate()
            return seconds
        process.communicate()
        return time.perf_counter() - start


def starting(repeats):
    cases = {
        "Python itself (`python -c pass`)": ([sys.executable, "-c", "pass"], False),
        "`python -c 'import torch'`": ([sys.executable, "-c", "import torch"], False),
        "`danlu --help`": ([*DANLU, "--help"], False),
        "`danlu fit digits`: first progress line": ([*DANLU, "fit", "digits"], True),
        "`danlu fit digits`: whole, with report": ([*DANLU, "fit", "digits"], False),
    }
    found = {name: [] for name in cases}
    for _ in range(repeats):
        for name, (command, first) in cases.items():
            found[name].append(wall(command, first))
    lines = [
        "### From command to result, median of " + str(repeats),
        "",
        "| | seconds |",
        "|---|---|",
    ]
    return (
        "\n".join(lines + [f"| {n} | {statistics.median(v):.2f} |" for n, v in found.items()])
        + "\n"
    )


def one(peer, rows, batch):
    """Seconds per 1,000 examples of one epoch of the 784–8–8–10 net, preparation left out."""
    command = [
        sys.executable,
        __file__,
        "--worker",
        peer,
        "--rows",
        str(rows),
        "--batch",
        str(batch),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


def worker(peer, rows, batch):
    epochs = max(1, 20_000 // rows)
    if peer == "danlu":
        import danlu

        data = danlu.load("mnist", valid=False, limit=rows)
        recipe = danlu.Recipe(
            model={"name": "dense", "hidden": (8, 8)},
            optimizer={"name": "momentum", "lr": 0.01, "momentum": 0.5},
            batch_size=batch,
            epochs=epochs,
        )
        with tempfile.TemporaryDirectory() as folder:
            run = danlu.fit(recipe, data, out=Path(folder) / "run")
            return run.result["seconds"] / (epochs * rows) * 1e3
    import torch
    import torch._dynamo
    import torch.nn.functional as F

    x, y, _, _ = peers.arrays()
    x, y = peers.scaled(x[:rows]), torch.from_numpy(y[:rows])
    model = peers.torch_net("dense")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
    start = time.perf_counter()
    for _ in range(epochs):
        total, correct = 0.0, 0
        for index in torch.randperm(rows).split(batch):
            out = model(x[index])
            loss = F.cross_entropy(out, y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
            correct += int((out.argmax(1) == y[index]).sum())
    return (time.perf_counter() - start) / (epochs * rows) * 1e3


def by(name, cases, repeats):
    lines = [
        f"### Milliseconds per 1,000 examples by {name} (784–8–8–10), median of {repeats}",
        "",
        f"| {name} | danlu | PyTorch loop | ratio |",
        "|---|---|---|---|",
    ]
    for label, rows, batch in cases:
        pairs = [(one("danlu", rows, batch), one("loop", rows, batch)) for _ in range(repeats)]
        ours, theirs = (statistics.median(v) * 1e3 for v in zip(*pairs, strict=True))
        lines.append(
            f"| {label:,} | {ours:.1f} | {theirs:.1f} | {statistics.median(b / a for a, b in pairs):.2f}× |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--what", default="99,start,rows,batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--worker")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--batch", type=int)
    a = parser.parse_args()
    if a.worker:
        print(worker(a.worker, a.rows, a.batch))
        return
    print(machine() + "\n")
    parts = {
        "99": lambda: time_to_99(a.repeats),
        "start": lambda: starting(a.repeats),
        "rows": lambda: by("rows", [(n, n, 64) for n in (1000, 4000, 16000, 60000)], a.repeats),
        "batch": lambda: by("batch size", [(b, 16000, b) for b in (16, 64, 256, 1024)], a.repeats),
    }
    for what in a.what.split(","):
        print(parts[what](), flush=True)


if __name__ == "__main__":
    main()
