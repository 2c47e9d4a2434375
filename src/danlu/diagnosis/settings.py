"""How a network is trained: what rules ask of a recipe, or of the objects of somebody's loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from danlu.recipe import Recipe
from danlu.train.probes.loop_notes import BATCH_NORMS, dropout_of

_ADDS_DECAY = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
)


@dataclass(frozen=True)
class Settings:
    """Fields of a training; None where one is not known, or there is none."""

    lr: float | None = None
    momentum: float | None = None
    eps: float | None = None
    weight_decay: float | None = None
    decays_gradient: bool = False
    """Whether decay is added to the gradient, and not taken off the weights."""
    dropout: float | None = None
    batch_size: int | None = None
    has_batch_norm: bool = False

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> Settings:
        """Return those of a recipe."""
        rule = recipe.optimizer
        return cls(
            rule.lr,
            rule.momentum,
            rule.eps,
            rule.weight_decay,
            False,
            recipe.model.dropout,
            recipe.batch_size,
            recipe.has_batch_norm,
        )

    @classmethod
    def of_loop(
        cls, model: nn.Module, optimizer: torch.optim.Optimizer | None, batch_size: int | None
    ) -> Settings:
        """Return what a module and an optimiser say.

        Of several groups of parameters the first counts.
        """
        group: Mapping[str, Any] = {} if optimizer is None else optimizer.param_groups[0]

        def number(name: str) -> float | None:
            value = group.get(name)
            return None if value is None else float(value)

        # Of rules that are not known, what decay is to a step is not known either.
        is_apart = isinstance(optimizer, torch.optim.AdamW)
        is_added = type(optimizer) in _ADDS_DECAY and not group.get("decoupled_weight_decay")
        momentum = number("momentum")
        dropout = max(map(dropout_of, model.modules()))
        return cls(
            number("lr"),
            _first_moment(group) if momentum is None else momentum,
            number("eps"),
            number("weight_decay") if is_apart or is_added else None,
            is_added,
            dropout or None,
            batch_size,
            any(isinstance(m, BATCH_NORMS) for m in model.modules()),
        )


def _first_moment(group: Mapping[str, Any]) -> float | None:
    """Return Adam's momentum."""
    betas = group.get("betas")
    return float(betas[0]) if isinstance(betas, (tuple, list)) and betas else None
