"""The process's allocator, told to keep what is freed."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys

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
