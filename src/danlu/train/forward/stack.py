"""The tensors of M networks of one structure, each kind side by side.

Trainable parameters lie in one flat vector: parameter after parameter, within each network after
network, weights (that decay and penalties act on) before biases and normalisation. So a layer of
all networks is one contiguous block, networks that share a batch share one product, and an update
is a few operations on long rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Values in a cache line: vectors are as many times as long, so that no kernel has a remainder that
# it computes in another way, with other last bits, than what comes before.
LINE = 32


def with_room(vector: Tensor) -> Tensor:
    """Return a copy of a vector with room behind it for `whole`."""
    longer = vector.new_zeros(whole_lines(len(vector) + LINE - 1))
    longer[: len(vector)] = vector
    return longer[: len(vector)]


def whole(vector: Tensor) -> Tensor:
    """Return a vector of `with_room` with the zeros behind it, up to a whole number of lines."""
    return vector.as_strided((whole_lines(len(vector) + LINE - 1),), (1,))


def whole_lines(values: int) -> int:
    """Return how many of so many values are in whole lines."""
    return values // LINE * LINE


class ParamRow(NamedTuple):
    """Parameters as rows [M, n] per network; the first `weights` columns are weights."""

    values: Tensor
    weights: int


class Stack:
    """Parameters, gradients and buffers of M networks.

    theta, grad: flat vectors; `parameters` and `grads` are views of them [M, …] by name, `buffers`
    holds buffers and frozen parameters likewise. With one network, `bind` makes its module's
    own parameters views of these, so that module and stack are one.
    """

    def __init__(self, models: Sequence[nn.Module], device: torch.device) -> None:
        template = models[0].to(device)
        trainable = {}
        for name, parameter in template.named_parameters():
            if parameter.requires_grad:
                trainable[name] = parameter
        self.weights = {name for name, p in trainable.items() if p.ndim >= 2}
        # Weights first, in the module's order: decay and penalties act on one range of the vector.
        weights_first = sorted(trainable, key=lambda name: name not in self.weights)
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name in weights_first:
            self.shapes[name] = tuple(trainable[name].shape)
        self.aliases = _aliases(template)
        self.lr_factors: dict[str, float] = {}
        """Factors on the learning rate by parameter, where they are not 1."""

        states = [model.state_dict() for model in models]
        dtype = next((p.dtype for p in trainable.values()), torch.float32)
        # A network without parameters has a vector, too, of no length.
        blocks = [torch.zeros(0, dtype=dtype, device=device)]
        for name in self.shapes:
            side_by_side = _side_by_side(states, name, device)  # [M, …]
            blocks.append(side_by_side.to(dtype).flatten())
        self._lay_out(len(models), torch.cat(blocks))
        self.buffers = {}
        for name in states[0]:
            is_parameter = name in self.shapes
            is_alias = name in self.aliases
            if not is_parameter and not is_alias:
                self.buffers[name] = _side_by_side(states, name, device)

    def _lay_out(self, members: int, theta: Tensor) -> None:
        self.members = members
        self.theta = with_room(theta)
        self.grad = with_room(torch.zeros_like(theta))
        self.parameters = self.views(self.theta)
        self.grads = self.views(self.grad)

    def bind(self, module: nn.Module) -> None:
        """Make the tensors of a module those of the only network here."""
        for name, p in module.named_parameters():
            if name in self.parameters:
                p.data = self.parameters[name][0]
                p.grad = self.grads[name][0]
            else:  # a frozen one
                p.data = self.buffers[name][0]
        for name, buffer in module.named_buffers():
            # A buffer that is not part of the state stays the module's own.
            if name in self.buffers:
                buffer.data = self.buffers[name][0]

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Return a vector of this layout as [M, …] by parameter."""
        views = {}
        start = 0
        for name, shape in self.shapes.items():
            end = start + self.members * math.prod(shape)
            views[name] = flat[start:end].view(self.members, *shape)
            start = end
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
            # One row for everything: the optimiser's operations are long, and few.
            weights = sum(math.prod(self.shapes[name]) for name in self.weights)
            return [ParamRow(flat.view(1, -1), weights)]
        rows = []
        for name, view in self.views(flat).items():
            values = view.reshape(self.members, -1)  # [M, n]
            weights = 0
            if name in self.weights:
                weights = values.shape[1]
            rows.append(ParamRow(values, weights))
        return rows

    def row_lr_factors(self) -> list[float]:
        """Return the factor on the learning rate of each of `param_rows`."""
        if self.members == 1 and not self.lr_factors:
            return [1.0]
        return [self.lr_factors.get(name, 1.0) for name in self.shapes]

    def select_vector(self, flat: Tensor, index: Tensor) -> Tensor:
        """Return a vector of this layout with some of the networks."""
        blocks = [flat.new_zeros(0)]
        for view in self.views(flat).values():
            blocks.append(view[index].reshape(-1))
        return torch.cat(blocks)

    def join_vectors(self, flat: Tensor, other: Stack, others_flat: Tensor) -> Tensor:
        """Return this vector and one of another stack's as one, these networks first."""
        blocks = [flat.new_zeros(0)]
        others = other.views(others_flat)
        for name, view in self.views(flat).items():
            blocks.append(view.reshape(-1))
            blocks.append(others[name].reshape(-1))
        return torch.cat(blocks)

    def select(self, index: Tensor) -> Stack:
        """Return a stack of some of the networks, in that order, that shares nothing with this."""
        theta = self.select_vector(self.theta, index)
        buffers = select_buffers(self.buffers, index)
        return self._with(len(index), theta, buffers)

    def join(self, other: Stack) -> Stack:
        """Return a stack of these networks, then those of another."""
        members = self.members + other.members
        theta = self.join_vectors(self.theta, other, other.theta)
        buffers = join_buffers(self.buffers, other.buffers)
        return self._with(members, theta, buffers)

    def _with(self, members: int, theta: Tensor, buffers: dict[str, Tensor]) -> Stack:
        """Return a stack of the same structure with other tensors."""
        new = Stack.__new__(Stack)
        new.shapes = self.shapes
        new.weights = self.weights
        new.aliases = self.aliases
        new.lr_factors = self.lr_factors
        new._lay_out(members, theta)
        new.buffers = buffers
        return new

    def state_dict(self, i: int) -> dict[str, Tensor]:
        """Return the state of network i by name, copied."""
        state = {}
        for name, tensor in self.tensors.items():
            state[name] = tensor[i].detach().clone()
        for alias, first in self.aliases.items():
            state[alias] = state[first].clone()
        return state


def select_buffers(buffers: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    """Return buffers [M, …] by name of some of the networks."""
    return {name: buffer[index] for name, buffer in buffers.items()}


def join_buffers(buffers: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the buffers of these networks, then those of others, by name."""
    joined = {}
    for name, buffer in buffers.items():
        joined[name] = torch.cat([buffer, others[name]])
    return joined


def _side_by_side(
    states: Sequence[Mapping[str, Tensor]], name: str, device: torch.device
) -> Tensor:
    """Return the tensor of that name of every network [M, …]."""
    # Moved one by one: networks are built in turn, and some may be there already.
    on_device = [state[name].to(device) for state in states]
    return torch.stack(on_device)


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
        first = first_name.setdefault(id(tensor), name)
        if first != name:
            aliases[name] = first
    # A buffer that is not saved is the module's own.
    saved = module.state_dict()
    return {alias: first for alias, first in aliases.items() if alias in saved}
