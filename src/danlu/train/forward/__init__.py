"""Forward and backward passes of M networks at once: a chain, one module, `vmap`."""

from danlu.train.forward.interface import ForwardPass, MemberLayout, Precision, SequenceForwardPass
from danlu.train.forward.snapshot import Snapshot
from danlu.train.forward.stack import Stack

__all__ = [
    "ForwardPass",
    "MemberLayout",
    "Precision",
    "SequenceForwardPass",
    "Snapshot",
    "Stack",
]
