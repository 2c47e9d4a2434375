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
from danlu.optim.optimizers import OPTIMIZERS, Hyper, State, per_network, rows_of
from danlu.recipe import Recipe
from danlu.train.engine.tiles import Tile, Tiling, is_used, weights_with_gradients
from danlu.train.forward.stack import Stack, with_room

_UNLIMITED = float("inf")


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
        self.stack = stack
        self.recipes = list(recipes)
        self.examples = list(examples)
        self.updates_per_epoch = updates_per_epoch
        self.start_updates = list(start_updates)
        self.same_start = len(set(start_updates)) == 1
        # In float64: Adam's bias correction raises β to their power.
        self.start_column = self._column_of_doubles(self.start_updates)
        self.rule = OPTIMIZERS[recipes[0].optimizer.name]

        self.schedules = []
        self.schedule_fields = []
        for recipe in recipes:
            self.schedules.append((recipe.schedule, recipe.epochs))
            # A factor is computed in every step, and reading a model's fields takes long.
            self.schedule_fields.append(recipe.schedule.model_dump(exclude_none=True))
        self.constant_lr = all(_has_constant_lr(recipe) for recipe in recipes)
        first = self.schedules[0]
        is_same_schedule = all(schedule == first for schedule in self.schedules)
        is_same_schedule &= not schedules.SCHEDULES[first[0].name].follows_loss
        self.shared_schedule = self.same_start and is_same_schedule
        self.set_state(self.rule.start(stack.theta))

    def set_state(self, state: State) -> None:
        """Go on from an optimiser's state (vectors of the stack's layout)."""
        self.state = {name: with_room(vector) for name, vector in state.items()}
        state = self.state
        self.hyper = self._hyper_parameters()
        tiling = Tiling(self.stack, state, self.rule, self.hyper, self.recipes)
        self.tiles = tiling.tiles(self.shared_schedule)
        self.remainders = tiling.remainders
        self.grad_rows = [row.values for row in tiling.grads]
        self.weight_rows = weights_with_gradients(tiling.params, tiling.grads)
        self.penalties = self._penalties()
        self.largest_norm, self.clips_norm = self._limit("norm")
        self.largest_value, self.clips_value = self._limit("value")

    def _hyper_parameters(self) -> Hyper:
        """Return the rule's hyper-parameters: numbers where all networks agree."""
        hyper: Hyper = {}
        for name in self.rule.defaults:
            # Numbers, where all agree, go into faster kernels than columns do.
            values = []
            for recipe in self.recipes:
                values.append(float(getattr(recipe.optimizer, name)))
            if len(set(values)) == 1:
                hyper[name] = values[0]
            else:
                exact = self._column_of_doubles(values)
                hyper[name] = per_network(name, exact, self.stack.theta.dtype)
        return hyper

    def _penalties(self) -> list[_Penalty]:
        asked = [recipe.penalty for recipe in self.recipes]
        # Divided in double precision, and rounded once: whether all agree changes no bit.
        per_example = list(zip(asked, self.examples, strict=True))
        l1 = self.column([penalty.l1 / m for penalty, m in per_example])
        l2 = self.column([penalty.l2 / m for penalty, m in per_example])
        eps = self.column([penalty.eps for penalty in asked])
        used = []
        if is_used(l2):
            used.append(_Penalty(penalties.l2_gradient, (l2, 1)))
        if is_used(l1):
            used.append(_Penalty(penalties.l1_gradient, (l1, 1, eps)))
        return used

    def _limit(self, name: str) -> tuple[Any, bool]:
        """Return a clipping limit, and whether any network has one; 0 is none."""
        limits = []
        for recipe in self.recipes:
            limit = getattr(recipe.clip, name)
            limits.append(limit or _UNLIMITED)
        has_limit = any(limit != _UNLIMITED for limit in limits)
        return self.column(limits), has_limit

    def column(self, values: Sequence[Any]) -> Any:
        """Return one number when all networks agree, else [M, 1]."""
        if len(set(values)) == 1:
            return values[0]
        return self._column_of_doubles(values).to(self.stack.theta.dtype)

    def _column_of_doubles(self, values: Sequence[Any]) -> Tensor:
        device = self.stack.theta.device
        row = torch.tensor(values, dtype=torch.float64, device=device)
        return row.unsqueeze(1)

    def set_rate_drops(self, drops: Sequence[int]) -> None:
        """Set how often the loss of each network has stopped falling so far."""
        for fields, drops_of_network in zip(self.schedule_fields, drops, strict=True):
            fields[schedules.DROPS] = drops_of_network

    def lr(self, i: int, k: int) -> float:
        """Return the learning rate of network i at the population's update k = 0, 1, …"""
        peak = self.recipes[i].optimizer.lr or 0.0
        return peak * self._schedule_factor(i, k)

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
        # In this order each sees what PyTorch's own loops would give it: the gradient with
        # penalties is clipped.
        self.add_penalties()
        if self.clips_norm:
            self._clip_norm()
        if self.clips_value:
            for grad in self.grad_rows:
                clip_value(grad, self.largest_value)
        if not self.constant_lr:
            self.apply_schedule(k)
        self._update(k)

    def add_penalties(self) -> None:
        """Add the penalties' gradients to those of the loss."""
        for penalty in self.penalties:
            for weights, grad in self.weight_rows:
                grad.add_(penalty.gradient(weights, *penalty.arguments))

    def _update(self, k: int) -> None:
        """Decay and update every tile."""
        for tile in self.tiles:
            tile.decay(self.rule)
        for ends in self.remainders:
            ends.gather()
        for tile in self.tiles:
            updates = k + 1 - self._start(tile)
            tile.update(self.rule, updates)
        for ends in self.remainders:
            ends.scatter()

    def _start(self, tile: Tile) -> Any:
        """Return the updates before the networks of a tile joined: a number, or [M, 1]."""
        if self.same_start or tile.is_fused:
            return self.start_updates[tile.rows.start]
        return self.start_column[tile.rows]

    def apply_schedule(self, k: int) -> None:
        """Set the learning rates of update k in every tile."""
        # One factor serves all; only the base rates differ.
        if self.shared_schedule:
            factor = self._schedule_factor(0, k)
            lr_of_each = [(recipe.optimizer.lr or 0.0) * factor for recipe in self.recipes]
        else:
            lr_of_each = [self.lr(i, k) for i in range(self.stack.members)]
        lr = self.column(lr_of_each)
        for tile in self.tiles:
            if tile.is_fused:
                lr_of_tile = lr_of_each[tile.rows.start]
            else:
                lr_of_tile = rows_of(lr, tile.rows)
            tile.hyper["lr"] = lr_of_tile * tile.lr_factor

    def _clip_norm(self) -> None:
        of_parameters = [grad.square().sum(1) for grad in self.grad_rows]  # [M] each
        squares = torch.stack(of_parameters).sum(0)  # [M]
        norms = squares.sqrt().unsqueeze(1)  # [M, 1]
        factor = norm_factor(norms, self.largest_norm)
        for grad in self.grad_rows:
            grad.mul_(factor)


def _has_constant_lr(recipe: Recipe) -> bool:
    schedule = recipe.schedule
    return schedule.name == "constant" and not schedule.warmup
