"""Memory: how much there is, and whether it ran out."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import torch

# Limits of control groups, version 2, then 1.
_CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")


def total_memory(device: torch.device) -> float:
    """Return how many bytes a device has, in use or not."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    of_machine = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    # A container may be allowed less than the machine has.
    return min([of_machine, *_limits(Path("/sys/fs/cgroup"))])


def _limits(cgroup: Path) -> list[float]:
    """Return the bytes that a container may take, where something limits it."""
    limits = []
    for name in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # the limit may be "max"
            limits.append(float((cgroup / name).read_text()))
    return limits


def is_out_of_memory(e: BaseException) -> bool:
    """Whether an error means that memory ran out (PyTorch has a type for it on GPUs only)."""
    is_known = isinstance(e, (MemoryError, torch.OutOfMemoryError))
    return is_known or "can't allocate memory" in str(e)
