"""A loop as people write them, for the tests of what is seen in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import danlu
from danlu import load
from danlu.diagnosis.finding import Finding

X, Y = load("digits").part("train")
X = X.flatten(1) / 255
Loss = Callable[[Tensor, Tensor], Tensor]
Cut = Callable[[nn.Module], object]


def network(*between: nn.Module, hidden: int = 32, outputs: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), *between, nn.Linear(hidden, outputs))


class Loop:
    """A loop as people write them, with a mistake or none."""

    def __init__(
        self,
        model: nn.Module,
        rule: torch.optim.Optimizer | None = None,
        loss_of: Loss = F.cross_entropy,
        targets: Tensor = Y,
        classes: int | None = 10,
        chance: float | None = None,
    ) -> None:
        self.model, self.loss_of, self.targets = model, loss_of, targets
        self.optimizer = rule or torch.optim.Adam(model.parameters(), 3e-3)
        self.watch = danlu.watch(model, self.optimizer, classes=classes, chance=chance)

    def run(
        self,
        epochs: int = 6,
        zero: bool = True,
        passes: int = 1,
        cut: Cut | None = None,
        score: bool | None = None,
        rates: Sequence[float] = (),
    ) -> list[Finding]:
        """Train; return what is found.

        zero: whether gradients are set to zero. passes: backward ones for a step. cut: clipping.
        score: whether a look at how it does is one in training mode. rates: of the first steps.
        """
        torch.manual_seed(1)
        with self.watch as watch:
            for _ in range(epochs):
                self.model.train()
                losses = [self.step(rows, zero, passes, cut, rates) for rows in self.batches()]
                seen = {"train_loss": sum(losses) / len(losses)}
                if score is not None:
                    self.model.train(score)
                    with torch.no_grad():
                        seen["valid_loss"] = float(self.loss_of(self.model(X), self.targets))
                watch.epoch(**seen)
        return list(watch.diagnose().findings)

    @staticmethod
    def batches() -> Sequence[Tensor]:
        return torch.randperm(len(X)).split(32)

    def step(
        self, rows: Tensor, zero: bool, passes: int, cut: Cut | None, rates: Sequence[float]
    ) -> float:
        if zero:
            self.optimizer.zero_grad()
        for part in rows.chunk(passes):
            loss = self.loss_of(self.model(X[part]), self.targets[part])
            (loss / passes).backward()
        if cut is not None:
            cut(self.model)
        for group in self.optimizer.param_groups if rates else ():
            group["lr"] = rates[min(self.watch._meter.steps, len(rates) - 1)]
        self.optimizer.step()
        self.watch.step(loss)
        return float(loss.detach())
