"""A patient's training as a plain PyTorch loop, for tools that hang into one.

The network and its initial weights are those of the recipe; batches, updates and the loss are PyTorch's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from clinic.patients import Patient
from torch import Tensor, nn

from danlu import Data, Recipe
from danlu.data.augment import Augmenter
from danlu.data.target_scale import standardised
from danlu.data.text import trim_padding
from danlu.nn.losses import balanced_weights
from danlu.nn.penalties import l1, l2
from danlu.optim.schedules import factor
from danlu.recipe.build import build_model

OPTIMIZERS = {
    "sgd": lambda p, h: torch.optim.SGD(p, h["lr"], weight_decay=h["weight_decay"]),
    "momentum": lambda p, h: torch.optim.SGD(
        p, h["lr"], momentum=h["momentum"], weight_decay=h["weight_decay"]
    ),
    "adam": lambda p, h: torch.optim.Adam(
        p, h["lr"], (h["beta1"], h["beta2"]), h["eps"], h["weight_decay"]
    ),
    "adamw": lambda p, h: torch.optim.AdamW(
        p, h["lr"], (h["beta1"], h["beta2"]), h["eps"], h["weight_decay"]
    ),
}


@dataclass
class Step:
    """One batch, pushed through: what a tool may look at before and after the update."""

    x: Tensor
    loss: Tensor


class PlainLoop:
    """The training of a patient; iterate over `steps`, each yielded after its backward pass."""

    def __init__(self, patient: Patient) -> None:
        self.recipe: Recipe = patient.recipe()
        self.data: Data = patient.data()
        torch.manual_seed(self.recipe.seed)
        self.model: nn.Module = build_model(self.recipe, self.data.schema)
        hyper = {k: v or 0.0 for k, v in self.recipe.optimizer.model_dump().items() if k != "name"}
        learning = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = OPTIMIZERS[self.recipe.optimizer.name](learning, hyper)
        self.normalizer = self.data.normalizer(self.recipe.normalize)
        self.generator = torch.Generator().manual_seed(self.recipe.seed)
        self.augmenter = Augmenter(**self.recipe.augment.model_dump())
        counts = self.data.class_counts("train") if self.data.schema.classes else None
        is_weighted = self.recipe.loss.class_weights == "balanced"
        self.class_weights = balanced_weights(counts) if is_weighted else None

    @property
    def classes(self) -> int | None:
        schema = self.data.schema
        return None if schema.is_regression else schema.outputs

    def steps(self) -> Iterator[Step]:
        """Train; yield after each backward pass. The caller updates, and ends the loop where it likes."""
        recipe, rows = self.recipe, self.data.parts["train"]
        per_epoch = math.ceil(len(rows) / recipe.batch_size)
        schedule = {k: v for k, v in recipe.schedule.model_dump().items() if v is not None}
        lr = recipe.optimizer.lr
        best, waited, k = math.inf, 0, 0
        for _ in range(recipe.epochs):
            self.model.train()
            for batch in rows[torch.randperm(len(rows), generator=self.generator)].split(
                recipe.batch_size
            ):
                share = factor(
                    recipe.schedule.name,
                    k,
                    per_epoch,
                    recipe.epochs,
                    recipe.schedule.warmup,
                    schedule,
                )
                for group in self.optimizer.param_groups:
                    group["lr"] = lr * share
                if len(batch) == 1 < recipe.batch_size:
                    continue  # batch norm cannot take a single example
                x, y = self._inputs(batch)
                loss = self._loss(self.model(x), y) + self._penalty(len(rows))
                self.optimizer.zero_grad()
                loss.backward()
                if recipe.clip.norm:
                    nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip.norm)
                yield Step(x, loss)
                k += 1
                if not math.isfinite(float(loss.detach())):
                    return
            if recipe.early_stopping.patience:
                held = self.valid_loss()
                waited = 0 if held < best - recipe.early_stopping.min_delta else waited + 1
                best = min(best, held)
                if waited >= recipe.early_stopping.patience:
                    return

    @torch.no_grad()
    def valid_loss(self) -> float:
        rows = self.data.parts["valid"]
        self.model.eval()
        x, y = self.data.x[rows], self.data.y[rows]
        return float(self._loss(self.model(self.normalizer(x)), y, plain=True))

    def _inputs(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.data.x[batch], self.data.y[batch]
        if self.data.schema.is_text:
            x, y = trim_padding(x, y, self.data.schema.source)
        if self.augmenter.moves:
            x = self.augmenter.move(x.float(), self.generator)
        return self.augmenter.add_noise(self.normalizer(x), self.generator), y

    def _loss(self, out: Tensor, y: Tensor, plain: bool = False) -> Tensor:
        if self.data.schema.is_regression:
            return F.mse_loss(out[:, 0], standardised(y, self.data.schema).float())
        smoothing = 0.0 if plain else self.recipe.loss.label_smoothing or 0.0
        return F.cross_entropy(
            out.flatten(0, -2),
            y.flatten().long(),
            self.class_weights,
            ignore_index=-1,
            label_smoothing=smoothing,
        )

    def _penalty(self, n: int) -> Tensor:
        penalty = self.recipe.penalty
        total = torch.zeros(())
        for p in self.model.parameters():
            if p.ndim >= 2 and (penalty.l1 or penalty.l2):
                total = total + l1(p, penalty.l1, n) + l2(p, penalty.l2, n)
        return total
