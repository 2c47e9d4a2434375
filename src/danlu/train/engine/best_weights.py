"""The best weights of each network so far, for early stopping. Legend: M networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from danlu.metrics import higher_is_better
from danlu.predict.scores import Score
from danlu.recipe import Recipe
from danlu.train.engine.members import MemberState
from danlu.train.forward import Snapshot, Stack

_NAME = "best"  # under which a checkpoint keeps them


class BestWeights:
    """Weights from after each network's best epoch by its `early_stopping.metric`."""

    def __init__(self, values: Snapshot) -> None:
        self.values = values

    @classmethod
    def start(cls, stack: Stack) -> BestWeights:
        """Return those of networks not yet trained."""
        return cls(Snapshot.of(stack))

    def update(
        self,
        stack: Stack,
        members: Sequence[MemberState],
        recipes: Sequence[Recipe],
        rows: Sequence[int],
        scores: Sequence[Score],
        epoch: int,
    ) -> None:
        """Keep the weights of the networks `rows` that got better; epoch: finished."""
        better = []
        for i in rows:
            member = members[i]
            stopping = recipes[i].early_stopping
            own_epoch = epoch - member.start_epoch
            loss = _loss_of(scores[i], stopping.metric)
            # The lowest is the best, by however little; patience asks for more.
            if loss < member.best_loss:
                member.best_loss = loss
                member.best_epoch = own_epoch
                better.append(i)
            if loss < member.loss_to_beat - stopping.min_delta:
                member.loss_to_beat = loss
                member.improved_epoch = own_epoch
        # One copy for all that improved.
        if better:
            self.values.take_rows(stack, better)

    def select(self, stack: Stack, rows: list[int]) -> BestWeights:
        """Return those of some of the networks; stack: whose layout this has."""
        index = torch.tensor(rows, device=stack.theta.device)
        selected = self.values.select(stack, index)
        return BestWeights(selected)

    def join(self, stack: Stack, other: BestWeights, other_stack: Stack) -> BestWeights:
        """Return those of these networks, then of others."""
        return BestWeights(self.values.join(stack, other.values, other_stack))

    def put(self, stack: Stack, rows: list[int]) -> None:
        """Give some networks of the stack their best weights."""
        self.values.put_rows(stack, rows)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return self.values.tensors(_NAME)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up where `tensors` left off."""
        for name, own in self.tensors().items():
            own.copy_(tensors[name])


def _loss_of(score: Score, metric: str) -> float:
    """Return a figure so that less is better; infinite where it is undefined."""
    value = score.figure(metric)
    if math.isnan(value):
        return math.inf
    return -value if higher_is_better(metric) else value
