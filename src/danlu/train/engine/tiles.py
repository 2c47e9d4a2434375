"""What an update changes in one go: tiles of the stack that stay in the cache, or fused kernels.

Legend: M networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from danlu.optim.optimizers import Hyper, State, UpdateRule, rows_of
from danlu.recipe import Recipe
from danlu.train.forward.stack import ParamRow, Stack

# Values updated together: parameters, gradient and state stay in the second-level cache.
_TILE_VALUES = 1 << 17
# Parameters of a network from which on a call of its own to PyTorch's fused kernel pays off.
_LARGE_NETWORK = 1 << 13


@dataclass(frozen=True)
class Tile:
    """What is updated in one go.

    Some networks' rows of one parameter; or, by a fused kernel, of several. lr_factor: on the
    learning rate of these parameters.
    """

    rows: slice
    params: list[Tensor]
    grads: list[Tensor]
    states: list[State]
    decayed: list[Tensor]
    hyper: Hyper
    is_fused: bool
    lr_factor: float

    def update(self, rule: UpdateRule, t: Any) -> None:
        """Update by the rule; t counts steps from 1."""
        for weights in self.decayed:
            rule.decay(weights, self.hyper)
        if self.is_fused and rule.fused:
            rule.fused(self.params, self.grads, self.states, self.hyper, t)
        else:
            rule.update(self.params[0], self.grads[0], self.states[0], self.hyper, t)


class Tiling:
    """Cuts a stack, its gradient and an optimiser's state into tiles.

    hyper: the rule's hyper-parameters, numbers where all networks agree, else columns [M, 1].
    """

    def __init__(
        self,
        stack: Stack,
        state: State,
        rule: UpdateRule,
        hyper: Hyper,
        recipes: Sequence[Recipe],
    ) -> None:
        self.members = stack.members
        self.values = stack.theta.numel()
        self.rule = rule
        self.hyper = hyper
        self.recipes = recipes
        # Parameters with what belongs to them, row for row.
        self.params = stack.param_rows(stack.theta)
        self.grads = stack.param_rows(stack.grad)
        self.states: dict[str, list[ParamRow]] = {}
        for name, vector in state.items():
            self.states[name] = stack.param_rows(vector)
        self.lr_factors = stack.row_lr_factors()

    def tiles(self, shared_schedule: bool) -> list[Tile]:
        """Return tiles that cover all; shared_schedule: whether one learning rate holds for all."""
        if self.rule.fused:
            agrees = all(isinstance(value, (int, float)) for value in self.hyper.values())
            if shared_schedule and agrees:
                all_together = slice(0, self.members)
                return self._fused([all_together])
            # A call for each network pays off where each call has much to do.
            parameters_per_network = self.values / self.members
            if parameters_per_network >= _LARGE_NETWORK:
                each_alone = [slice(i, i + 1) for i in range(self.members)]
                return self._fused(each_alone)
        tiles = []
        # Small networks: as many as fit the cache in one operation, whatever their number.
        for k, row in enumerate(self.params):
            values_of_network = max(1, row.values.shape[1])
            at_once = max(1, _TILE_VALUES // values_of_network)
            for first in range(0, self.members, at_once):
                end = min(first + at_once, self.members)
                some = slice(first, end)
                tiles.append(self._small(k, some))
        return tiles

    def _fused(self, members: Sequence[slice]) -> list[Tile]:
        """Return tiles for a fused kernel, which takes numbers, and one learning rate."""
        tiles = []
        for some in members:
            for group in self._groups_of_one_lr():
                optimizer = self.recipes[some.start].optimizer
                hyper = {}
                for name in self.rule.defaults:
                    hyper[name] = float(getattr(optimizer, name))
                tiles.append(self._tile(group, some, hyper, is_fused=True))
        return tiles

    def _small(self, k: int, members: slice) -> Tile:
        """Return the tile of parameter k of some networks."""
        hyper = {}
        for name, value in self.hyper.items():
            hyper[name] = rows_of(value, members)
        return self._tile([k], members, hyper, is_fused=False)

    def _tile(
        self,
        group: Sequence[int],
        members: slice,
        hyper: Hyper,
        is_fused: bool,
    ) -> Tile:
        """Return the tile of some parameters (by number) of some networks."""
        lr_factor = self.lr_factors[group[0]]
        hyper["lr"] = hyper["lr"] * lr_factor
        tile = Tile(members, [], [], [], [], hyper, is_fused, lr_factor)
        decays = is_used(self.hyper["weight_decay"])
        for k in group:
            param = self.params[k]
            tile.params.append(param.values[members])
            tile.grads.append(self.grads[k].values[members])
            tile.states.append(self._state_of(k, members))
            if decays and param.weights:
                weights = param.values[members, : param.weights]
                tile.decayed.append(weights)
        return tile

    def _state_of(self, k: int, members: slice) -> State:
        state = {}
        for name, rows in self.states.items():
            state[name] = rows[k].values[members]
        return state

    def _groups_of_one_lr(self) -> list[list[int]]:
        """Return the parameters' numbers by the factor on their learning rate."""
        groups: dict[float, list[int]] = {}
        for k, factor in enumerate(self.lr_factors):
            groups.setdefault(factor, []).append(k)
        return list(groups.values())


def is_used(column: Any) -> bool:
    """Whether a hyper-parameter that may be 0 is anything else for some network."""
    return not isinstance(column, (int, float)) or column > 0


def weights_with_gradients(
    params: Sequence[ParamRow], grads: Sequence[ParamRow]
) -> list[tuple[Tensor, Tensor]]:
    """Return the weights, which penalties act on, and their gradients, [M, n] each."""
    pairs = []
    for param, grad in zip(params, grads, strict=True):
        if param.weights:
            weights = param.values[:, : param.weights]
            their_gradient = grad.values[:, : param.weights]
            pairs.append((weights, their_gradient))
    return pairs
