"""Where large arrays live.

In memory while they fit the budget, else in a memory-mapped file that vanishes with the process.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from danlu.errors import DataError, StorageError, wrong
from danlu.memory import total_memory

Array = NDArray[Any]
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def cache_folder(*parts: str) -> Path:
    """Return a folder in the user's cache, made when missing."""
    folder = Path(platformdirs.user_cache_dir("danlu"), *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def parse_bytes(text: str | int | None) -> int:
    """Return "500MB", "2g" or a number of bytes as an int; None means half of the memory.

    Raises DataError for anything else.
    """
    if text is None:
        return int(total_memory() / 2)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", str(text).lower())
    if not found:
        raise DataError(wrong("memory", text, "must be a size such as 500MB or 2GB", "try 2GB"))
    number, unit = found.groups()
    return int(float(number) * _UNITS[unit])


def allocate(shape: tuple[int, ...], dtype: Any, budget: int) -> Array:
    """Return an array to fill: ordinary when it fits `budget` bytes, else mapped from a file.

    The file has no name and lies in the cache. Raises StorageError when the disk is full.
    """
    values = int(np.prod(shape, dtype=np.int64))
    size = values * np.dtype(dtype).itemsize
    if size <= budget:
        return np.empty(shape, dtype)
    # Not in /tmp, which may itself be memory.
    folder = cache_folder("arrays")
    try:
        # Unlinked at once: the system frees it even after kill -9. The map holds it open.
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as e:
        reason = e.strerror or e
        raise StorageError(
            f"the data need {size / 1e9:.1f} GB of disk in {folder}, but: {reason}"
        ) from e


def is_mapped(x: Array) -> bool:
    """Whether the array is read from disk as it is used."""
    # np.asarray of a mapped array is a plain array, whose base is mapped.
    return isinstance(x, np.memmap) or isinstance(x.base, np.memmap)
