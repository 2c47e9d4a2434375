"""Memory: how much there is, and whether it ran out."""

from __future__ import annotations

import torch

from danlu import memory


def total_memory(device: torch.device) -> float:
    """Return how many bytes a device has, in use or not."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    return memory.total_memory()
