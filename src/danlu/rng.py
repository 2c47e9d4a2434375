"""Named random streams: every draw comes from (seed, purpose, index…), not from a shared generator.

So a training can be resumed in the middle, and a network draws the same numbers alone or in a
population.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def seed_of(seed: int, purpose: str, *index: int | str) -> int:
    """Return a 63-bit seed for one named stream; equal names give equal seeds on every machine."""
    name = repr((seed, purpose, *index))
    # A digest, as Python's own hash differs from process to process.
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(
    seed: int,
    purpose: str,
    *index: int | str,
    device: str | torch.device = "cpu",
) -> torch.Generator:
    """Return a fresh generator for one named stream."""
    generator = torch.Generator(device)
    return generator.manual_seed(seed_of(seed, purpose, *index))


@contextlib.contextmanager
def drawn_apart(seed: int) -> Iterator[None]:
    """Let PyTorch's generators draw from a seed, and give them back as they were."""
    # A GPU that is not in use has no state yet, and asking for it would start it.
    is_in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    devices = list(range(torch.cuda.device_count())) if is_in_use else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        yield
