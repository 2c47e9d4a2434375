"""The tensors of M networks of one structure, each kind side by side.

Trainable parameters lie in one flat vector: parameter after parameter, within each network after
network, weights (that decay and penalties act on) before biases and normalisation. So a layer of
all networks is one contiguous block, networks that share a batch share one product, and an update
is a few operations on long rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class ParamRow(NamedTuple):
    """Parameters as rows [M, n] per network; the first `weights` columns are weights."""

    values: Tensor
    weights: int


class Stack:
    """Parameters, gradients and buffers of M networks.

    theta, grad: flat vectors; `parameters` and `grads` are views of them [M, …] by name, `buffers`
    holds buffers and frozen parameters likewise. With one network, its module's own parameters
    become views, so that module and stack are one.
    """

    def __init__(self, models: Sequence[nn.Module], device: torch.device) -> None:
        template = models[0].to(device)
        trainable = [(name, p) for name, p in template.named_parameters() if p.requires_grad]
        weights = {name: tuple(p.shape) for name, p in trainable if p.ndim >= 2}
        others = {name: tuple(p.shape) for name, p in trainable if p.ndim < 2}
        self.shapes, self.weights = {**weights, **others}, set(weights)
        self.aliases = _aliases(template)
        self.lr_factors: dict[str, float] = {}
        """Factors on the learning rate by parameter, where they are not 1."""

        states = [model.state_dict() for model in models]
        dtype = trainable[0][1].dtype if trainable else torch.float32
        flat = []
        for name in self.shapes:
            flat.append(torch.stack([s[name].to(device, dtype) for s in states]).reshape(-1))
        self._lay_out(len(models), torch.cat(flat) if flat else torch.zeros(0, device=device))
        rest = [k for k in states[0] if k not in self.shapes and k not in self.aliases]
        self.buffers = {k: torch.stack([s[k].to(device) for s in states]) for k in rest}
        if len(models) == 1:
            self.bind(template)

    def _lay_out(self, members: int, theta: Tensor) -> None:
        self.members, self.theta, self.grad = members, theta, torch.zeros_like(theta)
        self.parameters, self.grads = self.views(self.theta), self.views(self.grad)

    def bind(self, module: nn.Module) -> None:
        """Make the tensors of a module those of the only network here."""
        for name, p in module.named_parameters():
            if name in self.parameters:
                p.data, p.grad = self.parameters[name][0], self.grads[name][0]
            else:
                p.data = self.buffers[name][0]
        for name, buffer in module.named_buffers():
            if name in self.buffers:
                buffer.data = self.buffers[name][0]

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Return a vector of this layout as [M, …] by parameter."""
        views, at = {}, 0
        for name, shape in self.shapes.items():
            n = self.members * math.prod(shape)
            views[name] = flat[at : at + n].view(self.members, *shape)
            at += n
        return views

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters, frozen ones and buffers [M, …] by name."""
        return {**self.parameters, **self.buffers}

    def param_rows(self, flat: Tensor) -> list[ParamRow]:
        """Return a vector as rows per network.

        One network is one row; of several, or where rates differ, every parameter has rows of its
        own.
        """
        if self.members == 1 and not self.lr_factors:
            weights = sum(math.prod(self.shapes[name]) for name in self.weights)
            return [ParamRow(flat.view(1, -1), weights)]
        rows = []
        for name, view in self.views(flat).items():
            values = view.reshape(self.members, -1)
            rows.append(ParamRow(values, values.shape[1] if name in self.weights else 0))
        return rows

    def row_lr_factors(self) -> list[float]:
        """Return the factor on the learning rate of each of `param_rows`."""
        if self.members == 1 and not self.lr_factors:
            return [1.0]
        return [self.lr_factors.get(name, 1.0) for name in self.shapes]

    def select_vector(self, flat: Tensor, index: Tensor) -> Tensor:
        """Return a vector of this layout with some of the networks."""
        views = [view[index].reshape(-1) for view in self.views(flat).values()]
        return torch.cat(views) if views else flat.clone()

    def join_vectors(self, flat: Tensor, other: Stack, others_flat: Tensor) -> Tensor:
        """Return this vector and one of another stack's as one, these networks first."""
        views = []
        pairs = zip(self.views(flat).values(), other.views(others_flat).values(), strict=True)
        for own, others in pairs:
            views += [own.reshape(-1), others.reshape(-1)]
        return torch.cat(views) if views else flat.clone()

    def select(self, index: Tensor) -> Stack:
        """Return a stack of some of the networks, in that order, that shares nothing with this."""
        buffers = {name: buffer[index] for name, buffer in self.buffers.items()}
        return self._with(len(index), self.select_vector(self.theta, index), buffers)

    def join(self, other: Stack) -> Stack:
        """Return a stack of these networks, then those of another."""
        buffers = {k: torch.cat([buffer, other.buffers[k]]) for k, buffer in self.buffers.items()}
        theta = self.join_vectors(self.theta, other, other.theta)
        return self._with(self.members + other.members, theta, buffers)

    def _with(self, members: int, theta: Tensor, buffers: dict[str, Tensor]) -> Stack:
        """Return a stack of the same structure with other tensors."""
        new = Stack.__new__(Stack)
        new.shapes, new.weights, new.aliases = self.shapes, self.weights, self.aliases
        new.lr_factors = self.lr_factors
        new._lay_out(members, theta)
        new.buffers = buffers
        return new

    def state_dict(self, i: int) -> dict[str, Tensor]:
        """Return the state of network i by name, copied."""
        state = {name: t[i].detach().clone() for name, t in self.tensors.items()}
        for alias, first in self.aliases.items():
            state[alias] = state[first].clone()
        return state


@dataclass
class Snapshot:
    """Other values for the tensors of a stack: a vector of its layout, and buffers by name."""

    theta: Tensor
    buffers: dict[str, Tensor]

    @classmethod
    def of(cls, stack: Stack, only_floats: bool = False) -> Snapshot:
        """Return a copy of a stack's tensors; only_floats: leave out buffers of whole numbers."""
        kept = {
            name: buffer.clone()
            for name, buffer in stack.buffers.items()
            if buffer.is_floating_point() or not only_floats
        }
        return cls(stack.theta.clone(), kept)

    def select(self, stack: Stack, index: Tensor) -> Snapshot:
        """Return that of some of the networks; stack: whose layout this has."""
        buffers = {name: buffer[index] for name, buffer in self.buffers.items()}
        return Snapshot(stack.select_vector(self.theta, index), buffers)

    def join(self, stack: Stack, other: Snapshot, other_stack: Stack) -> Snapshot:
        """Return that of these networks, then of those."""
        buffers = {k: torch.cat([buffer, other.buffers[k]]) for k, buffer in self.buffers.items()}
        return Snapshot(stack.join_vectors(self.theta, other_stack, other.theta), buffers)

    def take_rows(self, stack: Stack, rows: list[int]) -> None:
        """Set some networks' values to those that the stack has now."""
        _copy_rows(stack, self.theta, stack.theta, rows)
        for name, buffer in self.buffers.items():
            buffer[rows] = stack.buffers[name][rows]

    def put_rows(self, stack: Stack, rows: list[int]) -> None:
        """Set some networks of the stack to these values."""
        _copy_rows(stack, stack.theta, self.theta, rows)
        for name, buffer in self.buffers.items():
            stack.buffers[name][rows] = buffer[rows]

    @torch.no_grad()
    def exchange(self, stack: Stack) -> None:
        """Exchange these values with the stack's."""
        pairs = [(self.theta, stack.theta)]
        pairs += [(buffer, stack.buffers[name]) for name, buffer in self.buffers.items()]
        for own, theirs in pairs:
            held = theirs.clone()
            theirs.copy_(own)
            own.copy_(held)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return what a checkpoint keeps, under that name."""
        return {name: self.theta, **{f"{name}.{k}": buffer for k, buffer in self.buffers.items()}}


def _copy_rows(stack: Stack, to: Tensor, source: Tensor, rows: list[int]) -> None:
    """Copy some networks' parameters from one vector of the stack's layout to another."""
    for target, values in zip(stack.param_rows(to), stack.param_rows(source), strict=True):
        target.values[rows] = values.values[rows]


def _aliases(module: nn.Module) -> dict[str, str]:
    """Return further names of shared tensors, with the first name of each.

    Shared tensors are trained under their first name.
    """
    first_name: dict[int, str] = {}
    aliases = {}
    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in named:
        if first_name.setdefault(id(tensor), name) != name:
            aliases[name] = first_name[id(tensor)]
    saved = module.state_dict()
    return {alias: name for alias, name in aliases.items() if alias in saved}
