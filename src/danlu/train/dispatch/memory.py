"""Memory: how much is free, and whether it ran out."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

import torch

# Files of control groups, version 2, then 1: limit, usage, statistics, and the statistic of the
# file cache, which is given back when memory is asked for.
_CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def free_memory(device: torch.device) -> float:
    """Return how many bytes are free."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    # A container may be allowed less than the machine has.
    return min(_available(), _allowed(Path("/sys/fs/cgroup")))


def _available() -> float:
    """Return the bytes that this machine has free, or half of all where it does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as f:
            for line in f:
                if line.startswith("MemAvailable"):
                    return float(line.split()[1]) * 1024
    except OSError:
        pass
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2


def _allowed(cgroup: Path) -> float:
    """Return the bytes that a container may still take; infinite where nothing limits it."""
    for limit, used, statistics, cache in _CGROUP_FILES:
        with contextlib.suppress(OSError, ValueError):  # the limit may be "max"
            most = float((cgroup / limit).read_text())
            reclaimable = 0.0
            for line in (cgroup / statistics).read_text().splitlines():
                name, value = line.split()
                if name == cache:
                    reclaimable = float(value)
            return most - float((cgroup / used).read_text()) + reclaimable
    return math.inf


def is_out_of_memory(e: BaseException) -> bool:
    """Whether an error means that memory ran out (PyTorch has a type for it on GPUs only)."""
    is_known = isinstance(e, (MemoryError, torch.OutOfMemoryError))
    return is_known or "can't allocate memory" in str(e)
