"""The update of M networks at once, each by its own hyper-parameters.

Penalties, clipping, decoupled decay, the update rule, in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from danlu.nn import penalties
from danlu.optim import schedules
from danlu.optim.clip import clip_value, norm_factor
from danlu.optim.optimizers import OPTIMIZERS, Hyper, State, UpdateRule, per_network, rows_of
from danlu.recipe import Recipe
from danlu.train.forward.stack import ParamRow, Stack

# Values updated together: parameters, gradient and state stay in the second-level cache.
_TILE_VALUES = 1 << 17
# Parameters of a network from which on a call of its own to PyTorch's fused kernel pays off.
_LARGE_NETWORK = 1 << 13
_UNLIMITED = float("inf")


@dataclass(frozen=True)
class _Tile:
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


@dataclass(frozen=True)
class _ParamRows:
    """The parameters of a stack with what belongs to them, row for row."""

    params: list[ParamRow]
    grads: list[ParamRow]
    states: dict[str, list[ParamRow]]
    lr_factors: list[float]

    def groups_of_one_lr(self) -> list[list[int]]:
        """Return the rows' numbers by factor: a fused kernel takes one learning rate."""
        groups = []
        for factor in dict.fromkeys(self.lr_factors):
            groups.append([k for k, own in enumerate(self.lr_factors) if own == factor])
        return groups


@dataclass
class _Penalty:
    """A penalty's gradient, and what it takes beside the weights."""

    gradient: Callable[..., Tensor]
    arguments: tuple[Any, ...] = field(default_factory=tuple)


class OptimizerStep:
    """Changes a stack by its gradient.

    examples: how many each recipe trains on (the m of the penalties). start_updates: how many
    updates of the population came before each network joined.
    """

    def __init__(
        self,
        stack: Stack,
        recipes: Sequence[Recipe],
        examples: Sequence[float],
        updates_per_epoch: int,
        start_updates: Sequence[int],
    ) -> None:
        self.stack, self.recipes, self.examples = stack, list(recipes), list(examples)
        self.updates_per_epoch, self.start_updates = updates_per_epoch, list(start_updates)
        self.same_start = len(set(start_updates)) == 1
        self.start_column = self._column_of_doubles(self.start_updates)
        self.rule = OPTIMIZERS[recipes[0].optimizer.name]
        self.schedules = [(r.schedule, r.epochs) for r in recipes]
        self.schedule_fields = [r.schedule.model_dump(exclude_none=True) for r in recipes]
        self.constant_lr = all(
            r.schedule.name == "constant" and not r.schedule.warmup for r in recipes
        )
        is_same_schedule = all(schedule == self.schedules[0] for schedule in self.schedules)
        self.shared_schedule = self.same_start and is_same_schedule
        self.set_state(self.rule.start(stack.theta))

    def set_state(self, state: State) -> None:
        """Go on from an optimiser's state (vectors of the stack's layout)."""
        self.state = state
        self.hyper = self._hyper_parameters()
        self.tiles = self._tiles()
        self.penalties = self._penalties()
        self.largest_norm, self.clips_norm = self._limit("norm")
        self.largest_value, self.clips_value = self._limit("value")
        grads = self.stack.param_rows(self.stack.grad)
        self.grad_rows = [row.values for row in grads]
        self.weight_rows = [  # weights, and their gradients
            (params.values[:, : params.weights], grad.values[:, : params.weights])
            for params, grad in zip(self.stack.param_rows(self.stack.theta), grads, strict=True)
            if params.weights
        ]

    def _hyper_parameters(self) -> Hyper:
        """Return the rule's hyper-parameters: numbers where all networks agree."""
        found: Hyper = {}
        for name in self.rule.defaults:
            values = [float(getattr(r.optimizer, name)) for r in self.recipes]
            if len(set(values)) == 1:
                found[name] = values[0]
            else:
                exact = self._column_of_doubles(values)
                found[name] = per_network(name, exact, self.stack.theta.dtype)
        return found

    def _penalties(self) -> list[_Penalty]:
        l1, l2, eps = (
            self.column([getattr(r.penalty, name) for r in self.recipes])
            for name in ("l1", "l2", "eps")
        )
        m = self.column(self.examples)
        found = []
        if _is_used(l2):
            found.append(_Penalty(penalties.l2_gradient, (l2, m)))
        if _is_used(l1):
            found.append(_Penalty(penalties.l1_gradient, (l1, m, eps)))
        return found

    def _limit(self, name: str) -> tuple[Any, bool]:
        """Return a clipping limit, and whether any network has one; 0 is none."""
        limits = [getattr(r.clip, name) or _UNLIMITED for r in self.recipes]
        return self.column(limits), any(limit != _UNLIMITED for limit in limits)

    def _tiles(self) -> list[_Tile]:
        stack, members = self.stack, self.stack.members
        rows = _ParamRows(
            stack.param_rows(stack.theta),
            stack.param_rows(stack.grad),
            {name: stack.param_rows(vector) for name, vector in self.state.items()},
            stack.row_lr_factors(),
        )
        if self.rule.fused:
            groups = rows.groups_of_one_lr()
            agrees = all(isinstance(value, (int, float)) for value in self.hyper.values())
            if self.shared_schedule and agrees:
                return [self._tile(rows, group, slice(0, members), True) for group in groups]
            if stack.theta.numel() >= _LARGE_NETWORK * members:
                each = [slice(i, i + 1) for i in range(members)]
                return [self._tile(rows, group, own, True) for own in each for group in groups]
        tiles = []
        for k, row in enumerate(rows.params):
            at_once = max(1, _TILE_VALUES // max(1, row.values.shape[1]))
            for first in range(0, members, at_once):
                some = slice(first, min(first + at_once, members))
                tiles.append(self._tile(rows, [k], some, False))
        return tiles

    def _tile(
        self, rows: _ParamRows, group: Sequence[int], members: slice, is_fused: bool
    ) -> _Tile:
        """Return the tile of some parameters (by number) of some networks."""
        if is_fused:  # numbers only
            optimizer = self.recipes[members.start].optimizer
            hyper = {name: float(getattr(optimizer, name)) for name in self.rule.defaults}
        else:
            hyper = {name: rows_of(value, members) for name, value in self.hyper.items()}
        lr_factor = rows.lr_factors[group[0]]
        hyper["lr"] = hyper["lr"] * lr_factor
        params = [rows.params[k] for k in group]
        decayed = []
        if _is_used(self.hyper["weight_decay"]):
            decayed = [row.values[members, : row.weights] for row in params if row.weights]
        return _Tile(
            members,
            params=[row.values[members] for row in params],
            grads=[rows.grads[k].values[members] for k in group],
            states=[{n: of[k].values[members] for n, of in rows.states.items()} for k in group],
            decayed=decayed,
            hyper=hyper,
            is_fused=is_fused,
            lr_factor=lr_factor,
        )

    def column(self, values: Sequence[Any]) -> Any:
        """Return one number when all networks agree, else [M, 1]."""
        if len(set(values)) == 1:
            return values[0]
        return self._column_of_doubles(values).to(self.stack.theta.dtype)

    def _column_of_doubles(self, values: Sequence[Any]) -> Tensor:
        device = self.stack.theta.device
        return torch.tensor(values, dtype=torch.float64, device=device).unsqueeze(1)

    def lr(self, i: int, k: int) -> float:
        """Return the learning rate of network i at the population's update k = 0, 1, …"""
        return (self.recipes[i].optimizer.lr or 0.0) * self._schedule_factor(i, k)

    def _schedule_factor(self, i: int, k: int) -> float:
        schedule, epochs = self.schedules[i]
        return schedules.factor(
            schedule.name,
            k - self.start_updates[i],
            self.updates_per_epoch,
            epochs,
            schedule.warmup,
            self.schedule_fields[i],
        )

    def __call__(self, k: int) -> None:
        """Make update k = 0, 1, …"""
        for penalty in self.penalties:
            for weights, grad in self.weight_rows:
                grad.add_(penalty.gradient(weights, *penalty.arguments))
        if self.clips_norm:
            self._clip_norm()
        if self.clips_value:
            for grad in self.grad_rows:
                clip_value(grad, self.largest_value)
        if not self.constant_lr:
            self.apply_schedule(k)
        for tile in self.tiles:
            tile.update(self.rule, k + 1 - self._start(tile))

    def _start(self, tile: _Tile) -> Any:
        """Return the updates before the networks of a tile joined: a number, or [M, 1]."""
        if self.same_start or tile.is_fused:
            return self.start_updates[tile.rows.start]
        return self.start_column[tile.rows]

    def apply_schedule(self, k: int) -> None:
        """Set the learning rates of update k in every tile."""
        if self.shared_schedule:
            lr = self.hyper["lr"] * self._schedule_factor(0, k)
        else:
            lr = self.column([self.lr(i, k) for i in range(self.stack.members)])
        for tile in self.tiles:
            own = self.lr(tile.rows.start, k) if tile.is_fused else rows_of(lr, tile.rows)
            tile.hyper["lr"] = own * tile.lr_factor

    def _clip_norm(self) -> None:
        squares = torch.stack([grad.square().sum(1) for grad in self.grad_rows])
        norms = squares.sum(0).sqrt().unsqueeze(1)
        factor = norm_factor(norms, self.largest_norm)
        for grad in self.grad_rows:
            grad.mul_(factor)


def _is_used(column: Any) -> bool:
    """Whether a hyper-parameter that may be 0 is anything else for some network."""
    return not isinstance(column, (int, float)) or column > 0
