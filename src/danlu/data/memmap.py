"""Where large arrays live: in memory while they fit the budget, else in a memory-mapped file that vanishes with us."""

from __future__ import annotations

import os
import re
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.data.sources.download import cache_folder
from danlu.errors import DataError, StorageError, wrong

Array = NDArray[Any]
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_bytes(text: str | int | None) -> int:
    """ "500MB", "2g" or a number of bytes; None means half of this machine's memory."""
    if text is None:
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        except (ValueError, OSError, AttributeError):
            return 4 * 10**9
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", str(text).lower())
    if not found:
        raise DataError(wrong("memory", text, "must be a size such as 500MB or 2GB", "try 2GB"))
    return int(float(found[1]) * _UNITS[found[2]])


def allocate(shape: tuple[int, ...], dtype: Any, budget: int) -> Array:
    """An array to fill: ordinary when it fits `budget` bytes, else mapped from an unnamed file in the cache."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= budget:
        return np.empty(shape, dtype)
    try:
        # Unlinked at once: the system frees it even after kill -9. The map holds it open.
        file = tempfile.TemporaryFile(dir=cache_folder("arrays"))  # noqa: SIM115
        return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as e:
        need = f"{size / 1e9:.1f} GB"
        raise StorageError(
            f"the data need {need} of disk in {cache_folder('arrays')}, but: {e.strerror or e}"
        ) from e


def is_mapped(x: Array) -> bool:
    """Whether the array is read from disk as it is used."""
    return isinstance(x, np.memmap) or (x.base is not None and isinstance(x.base, np.memmap))
