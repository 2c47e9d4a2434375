"""The update of M networks at once: penalties, clipping, decay and rule, each network by its own figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from danlu.nn import penalties
from danlu.optim import schedules
from danlu.optim.clip import clip_value, norm_factor
from danlu.optim.optimizers import OPTIMIZERS, Hyper, Rule, State, columns
from danlu.recipe import Recipe
from danlu.train.forward.stack import Stack

_TILE = (
    1 << 17
)  # values updated together: parameters, gradient and state stay in the second-level cache
_LARGE = (
    1 << 13
)  # parameters of a network from which on a call of its own to the framework's kernel pays


@dataclass(frozen=True)
class _Tile:
    """What is updated in one go: some networks' rows of a block, or, by the framework's kernel, of all blocks."""

    rows: slice
    p: list[Tensor]
    grad: list[Tensor]
    state: list[State]
    decayed: list[Tensor]
    hyper: Hyper
    fused: bool
    factor: float  # on the learning rate

    def step(self, rule: Rule, t: Any) -> None:
        for w in self.decayed:
            rule.decay(w, self.hyper)
        if self.fused and rule.fused:
            rule.fused(self.p, self.grad, self.state, self.hyper, t)
        else:
            rule.update(self.p[0], self.grad[0], self.state[0], self.hyper, t)


class OptimizerStep:
    """Changes a stack by its gradient.

    examples: how many each recipe trains on (the m of the penalties). late: the population's steps before each joined.
    """

    def __init__(
        self,
        stack: Stack,
        recipes: Sequence[Recipe],
        examples: Sequence[float],
        per_epoch: int,
        late: Sequence[int],
    ) -> None:
        self.stack, self.recipes, self.examples, self.per_epoch = (
            stack,
            list(recipes),
            list(examples),
            per_epoch,
        )
        self.late = list(late)
        self.together = len(set(late)) == 1
        self.late_column = torch.tensor(
            self.late, dtype=torch.float64, device=stack.theta.device
        ).unsqueeze(1)
        self.rule = OPTIMIZERS[recipes[0].optimizer.name]
        self.kinds = [(r.schedule, r.epochs) for r in recipes]
        self.shapes = [r.schedule.model_dump(exclude_none=True) for r in recipes]
        self.steady = all(r.schedule.name == "constant" and not r.schedule.warmup for r in recipes)
        self.alike = self.together and all(kind == self.kinds[0] for kind in self.kinds)
        self.use(self.rule.start(stack.theta))

    def use(self, state: State) -> None:
        """Go on from an optimiser's state (vectors of the stack's layout)."""
        self.state = state
        stack, r = self.stack, self.recipes
        self.hyper = self._hyper()
        blocks = stack.blocks(stack.theta)
        self.tiles = self._tiles(blocks)
        l1, l2, eps = (
            self._column([getattr(x.penalty, n) for x in r]) for n in ("l1", "l2", "eps")
        )
        m = self._column(self.examples)
        self.penalties: list[tuple[Any, ...]] = [(penalties.l2_gradient, l2, m)] if _on(l2) else []
        self.penalties += [(penalties.l1_gradient, l1, m, eps)] if _on(l1) else []
        norm, value = ([getattr(x.clip, n) or float("inf") for x in r] for n in ("norm", "value"))
        self.most_norm, self.most_value = self._column(norm), self._column(value)
        self.clips_norm, self.clips_value = (
            any(x != float("inf") for x in of) for of in (norm, value)
        )
        self.rows = [
            (p[:, :d], g[:, :d], g)
            for (p, d), (g, _) in zip(blocks, stack.blocks(stack.grad), strict=True)
        ]

    def _hyper(self) -> Hyper:
        """The rule's figures: numbers where all agree."""
        found: Hyper = {}
        for k in self.rule.defaults:
            values = [float(getattr(r.optimizer, k)) for r in self.recipes]
            alike = len(set(values)) == 1
            found |= (
                {k: values[0]}
                if alike
                else columns(k, self._exactly(values), self.stack.theta.dtype)
            )
        return found

    def _tiles(self, blocks: list[tuple[Tensor, int]]) -> list[_Tile]:
        stack, members = self.stack, self.stack.members
        beside = [stack.blocks(stack.grad), *(stack.blocks(s) for s in self.state.values())]
        decays = _on(self.hyper["weight_decay"])
        factors = stack.block_factors()
        alike = [
            [k for k, f in enumerate(factors) if f == factor] for factor in dict.fromkeys(factors)
        ]

        def tile(of: Sequence[int], rows: slice, fused: bool) -> _Tile:
            own = {n: v[rows] if isinstance(v, Tensor) else v for n, v in self.hyper.items()}
            if fused:  # numbers only
                own = {
                    n: float(getattr(self.recipes[rows.start].optimizer, n))
                    for n in self.rule.defaults
                }
            own["lr"] = own["lr"] * factors[of[0]]
            states = [
                dict(zip(self.state, (b[k][0][rows] for b in beside[1:]), strict=True)) for k in of
            ]
            shrunk = [blocks[k][0][rows, : blocks[k][1]] for k in of if decays and blocks[k][1]]
            return _Tile(
                rows,
                [blocks[k][0][rows] for k in of],
                [beside[0][k][0][rows] for k in of],
                states,
                shrunk,
                own,
                fused,
                factors[of[0]],
            )

        if self.rule.fused:
            if self.alike and not any(isinstance(v, Tensor) for v in self.hyper.values()):
                return [tile(of, slice(0, members), True) for of in alike]
            if stack.theta.numel() >= _LARGE * members:
                return [tile(of, slice(i, i + 1), True) for i in range(members) for of in alike]
        tiles = []
        for k, (p, _) in enumerate(blocks):
            rows = max(1, _TILE // max(1, p.shape[1]))
            tiles += [
                tile([k], slice(a, min(a + rows, members)), False) for a in range(0, members, rows)
            ]
        return tiles

    def _column(self, values: Sequence[Any]) -> Any:
        """One number when all agree, else [M, 1]."""
        if len(set(values)) == 1:
            return values[0]
        return self._exactly(values).to(self.stack.theta.dtype)

    def _exactly(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.stack.theta.device).unsqueeze(
            1
        )

    def lr(self, i: int, k: int) -> float:
        """The learning rate of network i at the population's step k = 0, 1, …"""
        return (self.recipes[i].optimizer.lr or 0.0) * self._factor(i, k)

    def _factor(self, i: int, k: int) -> float:
        s, epochs = self.kinds[i]
        return schedules.factor(
            s.name, k - self.late[i], self.per_epoch, epochs, s.warmup, self.shapes[i]
        )

    def __call__(self, k: int) -> None:
        """The update of step k = 0, 1, …"""
        if self.penalties:
            self._penalise()
        if self.clips_norm or self.clips_value:
            self._clip()
        if not self.steady:
            self._follow(k)
        for tile in self.tiles:
            first = tile.rows.start
            tile.step(
                self.rule,
                k
                + 1
                - (
                    self.late[first] if self.together or tile.fused else self.late_column[tile.rows]
                ),
            )

    def _follow(self, k: int) -> None:
        """The schedules' rates of this step, into every tile."""
        if self.alike:
            lr = self.hyper["lr"] * self._factor(0, k)
        else:
            lr = self._column([self.lr(i, k) for i in range(self.stack.members)])
        for tile in self.tiles:
            own = lr[tile.rows] if isinstance(lr, Tensor) else lr
            tile.hyper["lr"] = (self.lr(tile.rows.start, k) if tile.fused else own) * tile.factor

    def _penalise(self) -> None:
        for w, g, _ in self.rows:
            if w.shape[1]:
                for gradient, *figures in self.penalties:
                    g.add_(gradient(w, *figures))

    def _clip(self) -> None:
        if self.clips_norm:
            size = torch.stack([g.square().sum(1) for *_, g in self.rows]).sum(0).sqrt()
            factor = norm_factor(size.unsqueeze(1), self.most_norm)
            for *_, g in self.rows:
                g.mul_(factor)
        if self.clips_value:
            for *_, g in self.rows:
                clip_value(g, self.most_value)


def _on(column: Any) -> bool:
    return isinstance(column, Tensor) or column > 0
