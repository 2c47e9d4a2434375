"""Many networks at once: danlu's populations against the same networks trained otherwise, in one run.

    python benchmarks/population.py [--cases a,b,c,d] [--members 1,8,32,128,512] [--repeats 3] [--peers danlu,loop,…]

a: 784–8–8–10, batch 64; b: 784–5×100–10, batch 100; c: the notes' small convolutional net, batch 64; all on MNIST's
60,000 training examples, SGD, every network its own learning rate, all seeing the same batches. d: random search of
100 trials (learning rate and decay log-uniform as in the notes, two epochs, 80 % of the training part, judged on the
other 20 %) on net a.

Every measurement is a process of its own; repeats are interleaved, so that a slow minute of the machine hits all alike.
The clock starts when data and imports are there, and stops when the last network is trained (danlu's time covers
choosing how to train, three epochs, and writing the study to disk; benchmarks/population_cost.py has the cost against
size, depth and width). Peers whose networks do not know of each other
train a few, as their time per network does not depend on how many follow. Only the ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from population_peers import CASES, SEARCHES

NAMES = {
    "danlu": "danlu",
    "loop": "plain PyTorch, one after another",
    "joblib": "plain PyTorch, two processes (joblib)",
    "sklearn": "scikit-learn's MLPClassifier, two processes",
    "jax": "JAX, vmap and scan by hand",
    "optuna": "Optuna and plain PyTorch",
    "skorch": "skorch under RandomizedSearchCV, two processes (ten trials, times ten)",
    "danlu-halving": "danlu, halving",
    "danlu-own": "danlu, each its own order of the data",
    "danlu-short": "danlu, on 6,400 examples",
    "products": "its matrix products alone, two processes",
    "gemm": "matrix products of 1024×1024",
}
PEERS = {
    "a": ("loop", "joblib", "sklearn", "jax"),
    "b": ("loop", "joblib", "sklearn", "jax"),
    "c": ("loop", "joblib", "jax"),
}
LARGE = {"b": [512], "c": [128]}  # measured once, on fewer examples: a step costs the same
ALSO = {
    "a": [("danlu-own", 128), ("products", 64)],
    "b": [("danlu-own", 32), ("products", 8)],
    "c": [("danlu-own", 8)],
}


def measure(peer, case, members):
    """In a process of its own."""
    words = [
        sys.executable,
        str(Path(__file__).with_name("population_peers.py")),
        peer,
        case,
        str(members),
    ]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    if done.returncode:
        print(
            f"{peer} {case} {members} failed: {done.stderr.strip().splitlines()[-1:]}",
            file=sys.stderr,
        )
        return None
    return json.loads(done.stdout.splitlines()[-1])


def median(values):
    found = [v for v in values if v is not None]
    return statistics.median(found) if found else float("nan")


def populations(cases, sizes, repeats, peers):
    """{(case, peer, members): [seconds per network and step]}, and danlu's ways."""
    found, ways = {}, {}
    for repeat in range(repeats):
        for case in cases:
            jobs = [
                (p, 128 if p == "jax" and case != "c" else 8 if p == "jax" else 1)
                for p in PEERS[case]
                if p in peers
            ]
            jobs += [
                ("danlu", m)
                for m in sizes
                if not (case != "a" and m > 128) and not (case == "c" and m > 32)
            ]
            if "danlu" in peers:
                jobs += ALSO[case] + [("danlu-short", m) for m in LARGE.get(case, []) if not repeat]
            for peer, m in [*jobs, ("gemm", 1)]:
                value = measure(peer, case, m)
                if isinstance(value, list):
                    value, ways[case, peer, m] = value
                found.setdefault((case, peer, m), []).append(value)
                print(
                    f"{repeat + 1}/{repeats} {case} {peer} {m}: {value}",
                    file=sys.stderr,
                    flush=True,
                )
    return found, ways


def report(found, ways, cases):
    import torch

    lines = [
        f"machine: {os.cpu_count()} cores, {platform.machine()}; Python {platform.python_version()}, PyTorch {torch.__version__}",
        "",
    ]
    for case in cases:
        rows = {(p, m): median(v) for (c, p, m), v in found.items() if c == case}
        loop = rows.get(("loop", 1), float("nan"))
        gemm = rows.pop(("gemm", 1))
        danlu = min((v for (p, _), v in rows.items() if p == "danlu"), default=float("nan"))
        lines += [
            f"### {case}",
            "",
            "| | networks | µs a network and step | × plain PyTorch | way |",
            "|---|---|---|---|---|",
        ]
        for (p, m), v in sorted(rows.items(), key=lambda r: (r[0][0] == "danlu", r[0])):
            many = p.startswith("danlu") or p in ("jax", "products")
            lines.append(
                f"| {NAMES[p]} | {m if many else '–'} | {1e6 * v:.1f} | {loop / v:.1f} | {ways.get((case, p, m), '')} |"
            )
        if beside := {p: v for (p, _), v in rows.items() if p in ("joblib", "sklearn")}:
            name = min(beside, key=beside.__getitem__)
            lines += [
                "",
                f"danlu at best is {beside[name] / danlu:.1f}× the best process-parallel peer ({NAMES[name]}).",
            ]
        alone = min((v for (p, _), v in rows.items() if p == "products"), default=None)
        if alone:
            c = CASES[case]
            useful = 2 * c["batch"] * (3 * c["macs"] - c["first"])
            rate, limit = (useful / v / 1e9 for v in (danlu, alone))
            lines += [
                "",
                f"Useful operations at best: {rate:.0f} GFLOP/s, {100 * rate / gemm:.0f} % of 1024×1024 products' {gemm:.0f}; "
                f"the network's own products and nothing else reach {limit:.0f}, {100 * limit / gemm:.0f} %.",
            ]
        lines.append("")
    return "\n".join(lines)


def searches(repeats, peers):
    found = {}
    for repeat in range(repeats):
        for peer in (p for p in SEARCHES if p in peers):
            value = measure(peer, "d", 100)
            found.setdefault(peer, []).append(value)
            print(f"{repeat + 1}/{repeats} d {peer}: {value}", file=sys.stderr, flush=True)
    base = median([v[0] for v in found.get("optuna", []) if v])
    lines = [
        "### d",
        "",
        "| | seconds | × Optuna and PyTorch | best validation accuracy |",
        "|---|---|---|---|",
    ]
    for peer, values in found.items():
        whole = [v for v in values if v]
        lines.append(f"| {NAMES[peer]} | {median([v[0] for v in whole]):.1f} | {base / median([v[0] for v in whole]):.1f} | "
                     f"{median([v[1] for v in whole]):.4f} |")  # fmt: skip
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default="a,b,c,d")
    parser.add_argument("--members", default="1,8,32,128,512")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", default=",".join(NAMES))
    given = parser.parse_args()
    cases, peers = given.cases.split(","), given.peers.split(",")
    nets = [c for c in cases if c != "d"]
    if nets:
        found, ways = populations(
            nets, [int(m) for m in given.members.split(",")], given.repeats, peers
        )
        print(report(found, ways, nets))
    if "d" in cases:
        print(searches(given.repeats, peers))


if __name__ == "__main__":
    main()
