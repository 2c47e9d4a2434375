"""Named random streams: every draw comes from (seed, purpose, index…), not from a shared generator.

So a training can be resumed in the middle, and a network draws the same numbers alone or in a
population.
"""

from __future__ import annotations

import hashlib

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
