"""The update rules for anyone's own PyTorch loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from danlu.errors import RecipeError, unknown, wrong
from danlu.optim.optimizers import OPTIMIZERS


class Optimizer(torch.optim.Optimizer):
    """A row of `OPTIMIZERS` as a `torch.optim.Optimizer`.

    Parameter groups, state dicts and PyTorch's own schedulers work.

    >>> optimizer = danlu.optim.Optimizer(model.parameters(), "adam", lr=1e-3)

    Decay acts on every parameter of a group with `weight_decay`, as in PyTorch. Raises RecipeError
    for an unknown rule or argument, or a learning rate that is not positive.
    """

    def __init__(self, params: Any, rule: str = "adam", **hyper: float) -> None:
        if rule not in OPTIMIZERS:
            raise RecipeError(unknown("rule", rule, OPTIMIZERS))
        defaults = OPTIMIZERS[rule].defaults
        mistakes = [unknown("argument", name, defaults) for name in hyper if name not in defaults]
        if mistakes:
            raise RecipeError(*mistakes)
        if hyper.get("lr", 1.0) <= 0:
            raise RecipeError(wrong("lr", hyper["lr"], "must be greater than 0", "try 0.01"))
        self.rule = OPTIMIZERS[rule]
        super().__init__(params, {**defaults, **hyper})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update parameters that have a gradient; return the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                # A parameter that took no part in the loss.
                if p.grad is not None:
                    self._update(p, group)
        return loss

    def _update(self, p: Any, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state.update(step=0, **self.rule.start(p))
        state["step"] += 1
        if group["weight_decay"]:
            self.rule.decay(p, group)
        self.rule.update(p, p.grad, state, group, state["step"])
