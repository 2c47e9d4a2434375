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
from danlu.train.forward.stack import LINE, ParamRow, Stack, whole, whole_lines

# Values updated together: parameters, gradient and state stay in the second-level cache.
_TILE_VALUES = 1 << 17
_GRADIENTS = 1  # the place of gradients among parameters, gradients and state
# Parameters of a network from which on PyTorch's fused kernel pays off, also in a call of its own.
_LARGE_NETWORK = 1 << 11
_LARGE_NETWORK_ON_GPU = 1 << 13  # where a call is dear


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

    def decay(self, rule: UpdateRule) -> None:
        """Decay the weights, before the update."""
        for weights in self.decayed:
            rule.decay(weights, self.hyper)

    def update(self, rule: UpdateRule, t: Any) -> None:
        """Update by the rule; t counts steps from 1."""
        if self.is_fused and rule.fused:
            rule.fused(self.params, self.grads, self.states, self.hyper, t)
        else:
            rule.update(self.params[0], self.grads[0], self.states[0], self.hyper, t)


class Remainders:
    """The ends of rows that do not fill a line, of several parameters side by side, [M, R].

    A fused kernel computes what is left of a row after its last whole line in another way, with
    other last bits. Here these values fill lines of their own, so that a network's update is the
    same wherever it lies.
    """

    def __init__(self, members: int, params: Sequence[Sequence[Tensor]]) -> None:
        self.ends = []  # of the parameters, of the gradients, of each vector of the state
        for rows in params:
            ends = [row[:, whole_lines(row.shape[1]) :] for row in rows]
            self.ends.append([end for end in ends if end.shape[1]])
        width = sum(end.shape[1] for end in self.ends[0])
        room = whole_lines(width + LINE - 1)
        self.side_by_side = [rows[0].new_zeros(members, room) for rows in params]

    def gather(self) -> None:
        """Copy the ends here, before an update."""
        for row, ends in zip(self.side_by_side, self.ends, strict=True):
            start = 0
            for end in ends:
                row[:, start : start + end.shape[1]].copy_(end)
                start += end.shape[1]

    def scatter(self) -> None:
        """Copy them back; gradients are as they were."""
        for k, (row, ends) in enumerate(zip(self.side_by_side, self.ends, strict=True)):
            start = 0
            for end in ends:
                if k != _GRADIENTS:
                    end.copy_(row[:, start : start + end.shape[1]])
                start += end.shape[1]


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
        self.stack = stack
        self.state = state
        self.members = stack.members
        self.remainders: list[Remainders] = []
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
            has_one_rate = shared_schedule and agrees
            is_on_gpu = self.stack.theta.is_cuda
            parameters = self.stack.theta.numel() / self.members
            # On the CPU the way depends on the network alone, not on its company: so do its bits.
            if is_on_gpu and has_one_rate:
                return self._fused_rows([slice(0, self.members)])
            if parameters >= (_LARGE_NETWORK_ON_GPU if is_on_gpu else _LARGE_NETWORK):
                if has_one_rate and len(set(self.lr_factors)) == 1:
                    return [self._fused_whole()]
                each_alone = [slice(i, i + 1) for i in range(self.members)]
                return self._fused_rows(each_alone)
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

    def _fused_whole(self) -> Tile:
        """Return the tile of all networks, for a fused kernel: vectors of whole lines."""
        rows = slice(0, self.members)
        everything = list(range(len(self.params)))
        tile = self._tile(everything, rows, self._numbers(0), is_fused=True)
        tile.params[:] = [whole(self.stack.theta)]
        tile.grads[:] = [whole(self.stack.grad)]
        tile.states[:] = [{name: whole(vector) for name, vector in self.state.items()}]
        return tile

    def _fused_rows(self, members: Sequence[slice]) -> list[Tile]:
        """Return tiles for a fused kernel, which takes numbers, and one learning rate."""
        tiles = []
        for group in self._groups_of_one_lr():
            ends = self._remainders(group)
            for some in members:
                tile = self._tile(group, some, self._numbers(some.start), is_fused=True)
                if not self.stack.theta.is_cuda:
                    self._take_whole_lines(tile, ends)
                tiles.append(tile)
        return tiles

    def _numbers(self, i: int) -> Hyper:
        """Return the hyper-parameters of network i."""
        optimizer = self.recipes[i].optimizer
        return {name: float(getattr(optimizer, name)) for name in self.rule.defaults}

    def _remainders(self, group: Sequence[int]) -> Remainders:
        rows = [self.params, self.grads, *self.states.values()]
        ends = Remainders(self.members, [[of[k].values for k in group] for of in rows])
        if not self.stack.theta.is_cuda:
            self.remainders.append(ends)
        return ends

    def _take_whole_lines(self, tile: Tile, ends: Remainders) -> None:
        """Have a fused tile of one network end its rows at whole lines, and take its remainders."""
        row = tile.rows.start
        params, grads, *states = (side_by_side[row] for side_by_side in ends.side_by_side)
        tile.params[:] = [*map(_beginning, tile.params), params]
        tile.grads[:] = [*map(_beginning, tile.grads), grads]
        begun = []
        for state in tile.states:
            begun.append({name: _beginning(values) for name, values in state.items()})
        tile.states[:] = [*begun, dict(zip(self.states, states, strict=True))]

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


def _beginning(rows: Tensor) -> Tensor:
    """Return the whole lines of one network's row [1, n], [n']."""
    return rows[0, : whole_lines(rows.shape[1])]


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
