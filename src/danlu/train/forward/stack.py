"""The tensors of M networks of one structure, each kind side by side.

Trainable parameters lie in one flat vector, parameter after parameter and within each network after network, weights
(that decay and penalties act on) before biases and normalisation: a layer of all networks is one contiguous block, so
networks that share a batch share one product, and an update is few operations on long rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Stack:
    """Parameters, gradients and buffers of M networks; `values` and `grads` are views [M, …] by name.

    With one network, its module's own parameters become views, so that module and stack are one.
    """

    def __init__(self, models: Sequence[nn.Module], device: torch.device) -> None:
        template = models[0].to(device)
        named = [(k, p) for k, p in template.named_parameters() if p.requires_grad]
        weights = [(k, tuple(p.shape)) for k, p in named if p.ndim >= 2]
        self.shapes = dict(weights + [(k, tuple(p.shape)) for k, p in named if p.ndim < 2])
        self.weights = {k for k, _ in weights}
        states = [m.state_dict() for m in models]
        dtype = named[0][1].dtype if named else torch.float32
        flat = [
            torch.stack([s[k].to(device, dtype) for s in states]).reshape(-1) for k in self.shapes
        ]
        self._lay(len(models), torch.cat(flat) if flat else torch.zeros(0, device=device))
        self.aliases = _aliases(
            template
        )  # further names of shared tensors: they are trained under the first
        keys = [k for k in states[0] if k not in self.shapes and k not in self.aliases]
        self.rest = {
            k: torch.stack([s[k].to(device) for s in states]) for k in keys
        }  # buffers and frozen parameters
        self.factors: dict[str, float] = {}  # on the learning rate, by parameter, where it is not 1
        if len(models) == 1:
            self.bind(template)

    def _lay(self, members: int, theta: Tensor) -> None:
        self.members, self.theta, self.grad = members, theta, torch.zeros_like(theta)
        self.parameters, self.grads = self.views(self.theta), self.views(self.grad)

    def bind(self, module: nn.Module) -> None:
        """Make the tensors of a module those of the only network here."""
        for k, p in module.named_parameters():
            if k in self.parameters:
                p.data, p.grad = self.parameters[k][0], self.grads[k][0]
            else:
                p.data = self.rest[k][0]
        for k, b in module.named_buffers():
            if k in self.rest:
                b.data = self.rest[k][0]

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """A vector of this layout as [M, …] by parameter."""
        out, at = {}, 0
        for name, shape in self.shapes.items():
            n = self.members * math.prod(shape)
            out[name] = flat[at : at + n].view(self.members, *shape)
            at += n
        return out

    @property
    def values(self) -> dict[str, Tensor]:
        """Parameters, frozen ones and buffers [M, …] by name."""
        return {**self.parameters, **self.rest}

    def blocks(self, flat: Tensor) -> list[tuple[Tensor, int]]:
        """A vector as rows [M, n] per network, with how many leading columns are weights.

        One network is one row; of several, or where rates differ, every parameter is a block.
        """
        if self.members == 1 and not self.factors:
            return [(flat.view(1, -1), sum(math.prod(self.shapes[k]) for k in self.weights))]
        rows = {k: v.reshape(self.members, -1) for k, v in self.views(flat).items()}
        return [(v, v.shape[1] if k in self.weights else 0) for k, v in rows.items()]

    def block_factors(self) -> list[float]:
        """The factor on the learning rate of each block."""
        return (
            [self.factors.get(k, 1.0) for k in self.shapes]
            if self.members > 1 or self.factors
            else [1.0]
        )

    def only(self, flat: Tensor, keep: Tensor) -> Tensor:
        """A vector of this layout with the networks `keep` alone."""
        views = [v[keep].reshape(-1) for v in self.views(flat).values()]
        return torch.cat(views) if views else flat.clone()

    def joined(self, flat: Tensor, other: Stack, theirs: Tensor) -> Tensor:
        """A vector of this layout and one of another stack's, as one: these networks, then those."""
        pairs = zip(self.views(flat).values(), other.views(theirs).values(), strict=True)
        views = [t.reshape(-1) for pair in pairs for t in pair]
        return torch.cat(views) if views else flat.clone()

    def select(self, keep: Tensor) -> Stack:
        """A stack of the networks `keep`, in that order."""
        return self._with(
            len(keep), self.only(self.theta, keep), {k: v[keep] for k, v in self.rest.items()}
        )

    def beside(self, other: Stack) -> Stack:
        """A stack of these networks, then those of another."""
        rest = {k: torch.cat([v, other.rest[k]]) for k, v in self.rest.items()}
        return self._with(
            self.members + other.members, self.joined(self.theta, other, other.theta), rest
        )

    def _with(self, members: int, theta: Tensor, rest: dict[str, Tensor]) -> Stack:
        new = Stack.__new__(Stack)
        new.shapes, new.weights, new.aliases, new.factors = (
            self.shapes,
            self.weights,
            self.aliases,
            self.factors,
        )
        new._lay(members, theta)
        new.rest = rest
        return new

    def row(self, i: int) -> dict[str, Tensor]:
        """The state of network i by name, copied."""
        own = {k: v[i].detach().clone() for k, v in self.values.items()}
        return own | {alias: own[first].clone() for alias, first in self.aliases.items()}


def _aliases(module: nn.Module) -> dict[str, str]:
    """First names by the further names under which a module's state has the same tensor."""
    first: dict[int, str] = {}
    found = {}
    every = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    for name, t in every:
        if first.setdefault(id(t), name) != name:
            found[name] = first[id(t)]
    return {k: v for k, v in found.items() if k in module.state_dict()}
