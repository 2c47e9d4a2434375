"""Memory: how much there is, and whether it ran out."""

from __future__ import annotations

import torch

from danlu import memory


def total_memory(device: torch.device) -> float:
    """Return how many bytes a device has, in use or not."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    return memory.total_memory()


def is_out_of_memory(e: BaseException) -> bool:
    """Whether an error means that memory ran out (PyTorch has a type for it on GPUs only)."""
    is_known = isinstance(e, (MemoryError, torch.OutOfMemoryError))
    return is_known or "can't allocate memory" in str(e)
