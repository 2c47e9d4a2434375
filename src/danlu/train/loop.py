"""The training loop: steps, epochs, early stopping, checkpoints, for one network or for many at once."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from danlu.data import Data
from danlu.errors import Diverged, Interrupted
from danlu.runs import evaluate
from danlu.train.counting import Tally
from danlu.train.diverged import explain
from danlu.train.feed import Feed, stretches
from danlu.train.population import Population
from danlu.train.stopping import StopRequest


@dataclass
class Place:
    """A network's place in a population."""

    index: int  # of its recipe
    best_loss: float = float("inf")
    best_epoch: int = 0
    broke: bool = False
    stopped: bool = False  # by whoever watches, before its recipe's end


@dataclass
class Position:
    """How far the population is."""

    epoch: int = 0  # finished
    within: int = 0  # steps taken of the epoch begun
    seconds: float = 0.0  # so far, shared among those in training


class Ledger(Protocol):
    """What a training leaves behind, and who watches it."""

    interval: float

    def stepped(self, loop: Loop) -> None:
        """Now and then, between two steps."""

    def epoch(self, rows: list[tuple[Place, dict[str, Any]]]) -> None:
        """The history's rows of an epoch; a place may be marked as stopped."""

    def left(self, loop: Loop, population: Population, leaving: list[tuple[Place, int]]) -> None:
        """Networks are finished: their places, and their numbers in `population`, which has their final weights."""

    def broke(self, place: Place, weights: dict[str, Tensor], error: Diverged) -> None:
        """A network diverged, with these weights from before the step."""

    def save(self, step: int, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        """A checkpoint."""

    def interrupted(self, step: int) -> Interrupted:
        """What to raise when the user stops the training after a checkpoint."""
        ...


class Loop:
    """Trains a population to the end of its recipes, from wherever it stands."""

    def __init__(
        self,
        population: Population,
        places: Sequence[Place],
        feed: Feed,
        data: Data,
        metric: str,
        ledger: Ledger,
        checkpoint_every: float,
        stop: StopRequest,
    ) -> None:
        self.population, self.places, self.feed, self.data, self.metric = population, list(places), feed, data, metric
        self.ledger, self.checkpoint_every, self.stop = ledger, checkpoint_every, stop
        self.at = Position()
        self.tally = self._fresh()
        self.best: Tensor | None = None
        self.best_rest: dict[str, Tensor] = {}
        if any(r.early_stopping.patience for r in population.recipes):
            self.best = population.stack.theta.clone()
            self.best_rest = {k: v.clone() for k, v in population.stack.rest.items()}

    @property
    def steps(self) -> int:
        """Taken so far."""
        return self.at.epoch * self.feed.steps + self.at.within

    def restore(self, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.at = Position(**position["at"])
        by_index = {p["index"]: Place(**p) for p in position["places"]}
        keep = [i for i, p in enumerate(self.places) if p.index in by_index]
        if len(keep) < len(self.places):
            self._keep(keep)
        self.places = [by_index[p.index] for p in self.places]
        self.population.restore(tensors)
        self.tally.restore(tensors)
        if self.best is not None:
            self.best.copy_(tensors["best"])
            self.best_rest = {k: tensors[f"best.{k}"].to(v.device) for k, v in self.best_rest.items()}

    def save(self) -> None:
        """A checkpoint of this very step."""
        self._clock()
        best = {} if self.best is None else {"best": self.best, **{f"best.{k}": v for k, v in self.best_rest.items()}}
        position = {"at": asdict(self.at), "places": [asdict(p) for p in self.places]}
        self.ledger.save(self.steps, {**self.population.tensors(), **self.tally.tensors(), **best}, position)

    def train(self) -> None:
        """Run to the end. Raises Interrupted (saved), StorageError."""
        self.mark = time.perf_counter()
        self.saved = self.shown = self.mark
        self._leave([i for i in self._alive() if self._done(i)])
        while self._alive():
            self._epoch()

    def _alive(self) -> list[int]:
        return [i for i, p in enumerate(self.places) if not p.broke]

    def _epoch(self) -> None:
        population = self.population
        population.sit(self.feed.segments(population.recipes))
        for x, y, counts in self.feed.epoch(population.recipes, self.at.epoch, self.at.within, population.counts):
            y = population.targets(y)
            losses, out = population.step(x, y, self.steps, counts)
            if population.broken:
                self._broke(x)
                if not self._alive():
                    return
            self.tally.add(losses, out, y, counts)
            self.at.within += 1
            self._pause()
        self._end_epoch()

    def _pause(self) -> None:
        """Between two steps: tell, save, stop when asked."""
        now = time.perf_counter()
        if now - self.shown > self.ledger.interval:
            self.shown = now
            self.tally.settle()
            self.ledger.stepped(self)
        if self.stop.asked or now - self.saved > self.checkpoint_every:
            self.save()
            self.saved = time.perf_counter()
            # Large populations take long to write: no more than a twentieth of the time goes there.
            self.saved += 20 * (self.saved - now) if self.checkpoint_every else 0.0
            if self.stop.asked:
                raise self.ledger.interrupted(self.steps)

    def _broke(self, x: Tensor) -> None:
        """Mark networks whose loss is no number; the others go on as if nothing had happened."""
        population = self.population
        for i in population.broken:
            place = self.places[i]
            if place.broke:
                continue
            own = x[next(s for s, (a, z) in enumerate(population.crowd.segments) if a <= i < z)]
            weights = population.stack.row(i)
            lr = population.update.lr(i, max(self.steps - 1, 0))
            error = explain(population.network(i), population.recipes[i], own, self.steps, self.feed.steps, lr)
            place.broke = True
            if population.members > 1:
                population.still(i)
            self.ledger.broke(place, weights, error)

    def _end_epoch(self) -> None:
        self._clock()
        alive, at, metric, recipes = self._alive(), self.at, self.metric, self.population.recipes
        at.epoch, at.within = at.epoch + 1, 0
        self.tally.settle()
        losses, accuracies = self.tally.mean().tolist(), self.tally.accuracy().tolist()
        valid = self.scores(self.population, "valid") if self.data.size("valid") else None
        rows = []
        for i in alive:
            row: dict[str, Any] = {
                "epoch": at.epoch,
                "step": self.steps,
                "lr": self.population.update.lr(i, self.steps - 1),
                "train_loss": losses[i],
                f"train_{metric}": accuracies[i],
            }
            if valid:
                row |= {"valid_loss": valid[i].loss, f"valid_{metric}": valid[i].accuracy}
            row["seconds"] = round(at.seconds, 4)
            rows.append((self.places[i], row))
        if valid:
            self._keep_best([i for i in alive if recipes[i].early_stopping.patience], [v.loss for v in valid])
        self.tally = self._fresh()
        self.ledger.epoch(rows)
        self._leave([i for i in alive if self._done(i)])

    def _keep_best(self, rows: list[int], losses: list[float]) -> None:
        better = []
        for i in rows:
            place, stopping = self.places[i], self.population.recipes[i].early_stopping
            if losses[i] < place.best_loss - stopping.min_delta:
                place.best_loss, place.best_epoch = losses[i], self.at.epoch
                better.append(i)
        if better and self.best is not None:
            stack = self.population.stack
            for (b, _), (p, _) in zip(stack.blocks(self.best), stack.blocks(stack.theta), strict=True):
                b[better] = p[better]
            for k, v in stack.rest.items():
                self.best_rest[k][better] = v[better]

    def _done(self, i: int) -> bool:
        place, recipe = self.places[i], self.population.recipes[i]
        done = self.at.epoch
        patience = recipe.early_stopping.patience
        exhausted = bool(patience) and place.best_epoch > 0 and done - place.best_epoch >= patience
        return self.at.within == 0 and (done >= recipe.epochs or exhausted or place.stopped)

    def _leave(self, rows: list[int]) -> None:
        """Hand finished networks over, with their best weights where those were kept, and close the ranks."""
        if not rows:
            return
        stay = [i for i in self._alive() if i not in set(rows)]
        final, best, rest = self.population, self.best, self.best_rest
        numbers = rows
        if stay:
            index = torch.tensor(rows, device=final.device)
            best = None if best is None else final.stack.only(best, index)
            rest = {k: v[index] for k, v in rest.items()}
            final, numbers = copy.copy(final), list(range(len(rows)))
            final.keep(rows)
        kept = [n for n, i in zip(numbers, rows, strict=True) if self.places[i].best_epoch]
        if kept and best is not None:
            stack = final.stack
            for (p, _), (b, _) in zip(stack.blocks(stack.theta), stack.blocks(best), strict=True):
                p[kept] = b[kept]
            for k, v in stack.rest.items():
                v[kept] = rest[k][kept]
        self.ledger.left(self, final, [(self.places[i], n) for i, n in zip(rows, numbers, strict=True)])
        self._keep(stay) if stay else self.places.clear()

    def _keep(self, rows: list[int]) -> None:
        index = torch.tensor(rows, device=self.population.device)
        if self.best is not None:
            self.best = self.population.stack.only(self.best, index)
            self.best_rest = {k: v[index] for k, v in self.best_rest.items()}
        self.places = [self.places[i] for i in rows]
        self.population.keep(rows)
        self.tally = self.tally.keep(rows)

    def scores(self, population: Population, part: str, most: int | None = None) -> list[evaluate.Score]:
        """What each network of the population scores on a part of the data."""
        return evaluate.scores(self.outputs(population, part, most), self.data.schema)

    def outputs(self, population: Population, part: str, most: int | None = None) -> evaluate.Outputs:
        """Outputs [M, K, n] and targets [n] on a part of the data."""
        names = [r.normalize for r in population.recipes]
        segments = stretches(names)
        normalizers = [self.feed.normalizers[names[a]] for a, _ in segments]
        return evaluate.part_outputs(lambda x: population.outputs(x, segments), self.data, part, normalizers, most)

    def _fresh(self) -> Tally:
        return Tally(self.population.members, self.data.schema.task == "classification")

    def _clock(self) -> None:
        """Share the time since the last call among those in training."""
        now = time.perf_counter()
        self.at.seconds += (now - self.mark) / max(1, len(self._alive()))
        self.mark = now
