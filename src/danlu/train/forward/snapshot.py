"""Copies of a stack's tensors: averages of weights, and the best epoch's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from danlu.train.forward.stack import Stack, join_buffers, select_buffers


@dataclass
class Snapshot:
    """Other values for the tensors of a stack: a vector of its layout, and buffers by name."""

    theta: Tensor
    buffers: dict[str, Tensor]

    @classmethod
    def of(cls, stack: Stack, only_floats: bool = False) -> Snapshot:
        """Return a copy of a stack's tensors; only_floats: leave out buffers of whole numbers."""
        # Averages of counts, such as batches seen, would mean nothing.
        copies = {}
        for name, buffer in stack.buffers.items():
            if buffer.is_floating_point() or not only_floats:
                copies[name] = buffer.clone()
        return cls(stack.theta.clone(), copies)

    def select(self, stack: Stack, index: Tensor) -> Snapshot:
        """Return that of some of the networks; stack: whose layout this has."""
        theta = stack.select_vector(self.theta, index)
        buffers = select_buffers(self.buffers, index)
        return Snapshot(theta, buffers)

    def join(self, stack: Stack, other: Snapshot, other_stack: Stack) -> Snapshot:
        """Return that of these networks, then of those."""
        theta = stack.join_vectors(self.theta, other_stack, other.theta)
        buffers = join_buffers(self.buffers, other.buffers)
        return Snapshot(theta, buffers)

    def take_rows(self, stack: Stack, rows: list[int]) -> None:
        """Set some networks' values to those that the stack has now."""
        _copy_rows(stack, self.theta, stack.theta, rows)
        for name, buffer in self.buffers.items():
            theirs = stack.buffers[name]
            buffer[rows] = theirs[rows]

    def put_rows(self, stack: Stack, rows: list[int]) -> None:
        """Set some networks of the stack to these values."""
        _copy_rows(stack, stack.theta, self.theta, rows)
        for name, buffer in self.buffers.items():
            theirs = stack.buffers[name]
            theirs[rows] = buffer[rows]

    @torch.no_grad()
    def exchange(self, stack: Stack) -> None:
        """Exchange these values with the stack's."""
        pairs = [(self.theta, stack.theta)]
        for name, buffer in self.buffers.items():
            pairs.append((buffer, stack.buffers[name]))
        # In place: the modules' parameters and the optimiser hold views of both.
        for own, theirs in pairs:
            previous = theirs.clone()
            theirs.copy_(own)
            own.copy_(previous)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return what a checkpoint keeps, under that name."""
        saved = {name: self.theta}
        for key, buffer in self.buffers.items():
            saved[f"{name}.{key}"] = buffer
        return saved


def _copy_rows(stack: Stack, to: Tensor, source: Tensor, rows: list[int]) -> None:
    """Copy some networks' parameters from one vector of the stack's layout to another."""
    targets = stack.param_rows(to)
    sources = stack.param_rows(source)
    for target, values in zip(targets, sources, strict=True):
        target.values[rows] = values.values[rows]
