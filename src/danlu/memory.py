"""The machine's memory: how much there is, and how much of it is free."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
# Limits of control groups, version 2, then 1, and what is in use.
_LIMITS = {
    "memory.max": "memory.current",
    "memory/memory.limit_in_bytes": "memory/memory.usage_in_bytes",
}
_VMSTAT = Path("/proc/vmstat")
_NO_MEMORY = ("can't allocate memory", "out of memory", "unable to allocate")
_UNKNOWN = 8e9


def total_memory() -> float:
    """Return how many bytes of memory this process may have, in use or not."""
    return min([_of_machine(), *_limits(_CGROUP)])


def free_memory() -> float:
    """Return about how many bytes are free, or could be freed at once."""
    free = [_of_machine()]
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free.append(float(line.split()[1]) * 1024)
    for limit, used in _LIMITS.items():
        # The limit may be "max".
        with contextlib.suppress(OSError, ValueError):
            in_use = float((_CGROUP / used).read_text()) - _cached(_CGROUP)
            free.append(float((_CGROUP / limit).read_text()) - in_use)
    return max(0.0, min(free))


def as_bytes(size: float) -> str:
    """Return a number of bytes as people write it: 2.1 TB, 12.4 GB, 300 MB."""
    for unit, name in ((1e12, "TB"), (1e9, "GB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def processes_killed() -> int:
    """Return how many processes the system has killed because memory ran out, as far as it says."""
    for file in (_CGROUP / "memory.events", _CGROUP / "memory/memory.oom_control", _VMSTAT):
        with contextlib.suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def is_out_of_memory(e: BaseException) -> bool:
    """Whether an error means that memory ran out (PyTorch has a type for it on GPUs only)."""
    words = str(e).lower()
    return isinstance(e, MemoryError) or any(said in words for said in _NO_MEMORY)


def _of_machine() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):  # not on Windows
        return _UNKNOWN


def _limits(cgroup: Path) -> list[float]:
    """Return the bytes that a container may take, where something limits it."""
    limits = []
    for name in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # the limit may be "max"
            limits.append(float((cgroup / name).read_text()))
    return limits


def _cached(cgroup: Path) -> float:
    """Return the bytes of files in memory, which the system gives up when others need the room."""
    with contextlib.suppress(OSError, ValueError):
        for line in (cgroup / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                return float(line.split()[1])
    return 0.0
