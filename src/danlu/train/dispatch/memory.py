"""Memory: what can still be had, whether it ran out, and an allocator told to keep what is freed."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import sys
from pathlib import Path

import torch

_TRIM, _MAP = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of glibc's malloc.h


@functools.cache
def keep_freed_memory(most: int = 1 << 28) -> None:
    """Let glibc reuse freed blocks of up to `most` bytes instead of handing them back to the system.

    Every step allocates the same activations; without this each costs page faults, a quarter of a small
    convolutional network's time. Elsewhere than on glibc nothing happens.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_TRIM, most)
            libc.mallopt(_MAP, most)


def free_memory(device: torch.device) -> float:
    """Bytes that can still be had."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as f:
            free = next(
                float(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable")
            )
    except (OSError, StopIteration):
        free = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2
    return min(free, _allowed(Path("/sys/fs/cgroup")))


def _allowed(cgroup: Path) -> float:
    """Bytes that a container may still take (control groups, version 2, then 1); infinite where nothing limits it."""
    for limit, used, stat, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        with contextlib.suppress(OSError, ValueError):
            most = float((cgroup / limit).read_text())  # "max" is no number
            lines = (line.split() for line in (cgroup / stat).read_text().splitlines())
            idle = next(
                (float(n) for name, n in lines if name == cache), 0.0
            )  # given back when memory is asked for
            return most - float((cgroup / used).read_text()) + idle
    return math.inf


def out_of_memory(e: BaseException) -> bool:
    """Whether an error says that memory ran out (PyTorch has a type for it on GPUs only)."""
    return isinstance(e, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(e)
