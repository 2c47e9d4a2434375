"""What benchmarks share: measurements in processes of their own, taken in turn; ratios; the machine they ran on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path


def in_process(script, **options):
    """What a benchmark prints last, as JSON, when it is called in a fresh process with these options."""
    command = [
        sys.executable,
        script,
        *(part for k, v in options.items() for part in (f"--{k}", str(v))),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{options} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def interleaved(script, peers, repeats, seeds=False, **options):
    """What each peer measured, `repeats` times, peers taking turns; with seeds, the k-th time is of seed k."""
    found = {p: [] for p in peers}
    for k in range(repeats):
        for p in peers:
            m = in_process(script, worker=p, **options, **({"seed": k} if seeds else {}))
            found[p].append(m)
            told = "  ".join(f"{name} {v:.5g}" for name, v in m.items() if not isinstance(v, str))
            print(f"{k + 1}/{repeats} {p:10} {told}", file=sys.stderr, flush=True)
    return found


def faster(found, peer, first="danlu"):
    """By how much the first is faster than a peer, the median over pairs of measurements: 1.13×. Empty for itself."""
    ratios = [m["seconds"] / d["seconds"] for m, d in zip(found[peer], found[first], strict=True)]
    return "" if peer == first else f"{statistics.median(ratios):.2f}×"


def machine():
    """The machine and versions, in a line."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(
        (line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor()
    )
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    return f"{os.cpu_count()} cores of {cpu}, {versions}, {time.strftime('%Y-%m-%d')}"
