"""The training loop: steps, epochs, early stopping, checkpoints, for one network or for many at once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from danlu.data import Data
from danlu.errors import Diverged, Interrupted
from danlu.predict import evaluate
from danlu.recipe import Recipe
from danlu.train.batches.batch_stream import BatchStream, kind, stretches
from danlu.train.engine.divergence import explain
from danlu.train.engine.population import Population
from danlu.train.engine.running_metrics import RunningMetrics
from danlu.train.engine.stopping import StopRequest


@dataclass
class MemberState:
    """A network's place in a population."""

    index: int  # of its recipe
    start: int = 0  # epochs of the population before it joined
    seconds: float = 0.0  # its share so far
    best_loss: float = float("inf")
    best_epoch: int = 0
    broke: bool = False
    stopped: bool = False  # by whoever watches, before its recipe's end


@dataclass
class Progress:
    """How far the population is: who joins later counts from there."""

    epoch: int = 0  # finished
    within: int = 0  # steps taken of the epoch begun


class Recorder(Protocol):
    """What a training leaves behind, and who watches it."""

    interval: float

    def stepped(self, loop: Loop) -> None:
        """Now and then, between two steps."""

    def epoch(self, rows: list[tuple[MemberState, dict[str, Any]]]) -> None:
        """The history's rows of an epoch; a place may be marked as stopped."""

    def left(self, loop: Loop, population: Population, leaving: list[tuple[MemberState, int]]) -> None:
        """Networks are finished: their places, and their numbers in `population`, which has their final weights."""

    def broke(self, place: MemberState, weights: dict[str, Tensor], error: Diverged) -> None:
        """A network diverged, with these weights from before the step."""

    def save(self, step: int, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        """A checkpoint."""

    def interrupted(self, step: int) -> Interrupted:
        """What to raise when the user stops the training after a checkpoint."""
        ...


class Loop:
    """Trains recipes to their ends, from wherever they stand.

    recipes: by index, in the order in which they are to begin. make: a population of some of them. room: networks that
    train together; a place that gets free is given to the next who waits, between two epochs.
    """

    def __init__(
        self,
        recipes: Mapping[int, Recipe],
        make: Callable[[Sequence[Recipe]], Population],
        room: int,
        feed: BatchStream,
        data: Data,
        metric: str,
        ledger: Recorder,
        checkpoint_every: float,
        stop: StopRequest,
    ) -> None:
        self.recipes, self.make, self.room, self.feed, self.data, self.metric = (
            recipes,
            make,
            room,
            feed,
            data,
            metric,
        )
        self.ledger, self.checkpoint_every, self.stop = ledger, checkpoint_every, stop
        self.at, self.waiting = Progress(), list(recipes)
        self.places: list[MemberState] = []
        self.best: Tensor | None = None
        self.best_rest: dict[str, Tensor] = {}

    @property
    def steps(self) -> int:
        """Taken so far by who was there from the beginning."""
        return self.at.epoch * self.feed.steps + self.at.within

    def steps_of(self, place: MemberState) -> int:
        """Taken so far by the network there."""
        return self.steps - place.start * self.feed.steps

    def told(self, place: MemberState) -> dict[str, Any]:
        """How long the network there was trained."""
        best = {"best_epoch": place.best_epoch} if place.best_epoch else {}
        return {
            "epochs": self.at.epoch - place.start,
            "steps": self.steps_of(place),
            "seconds": round(place.seconds, 3),
            **best,
        }

    def restore(self, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.at, self.waiting = Progress(**position["at"]), position["waiting"]
        self._seat([MemberState(**p) for p in position["places"]])
        self.population.restore(tensors)
        self.tally.restore(tensors)
        if self.best is not None:
            self.best.copy_(tensors["best"])
            self.best_rest = {
                k: tensors[f"best.{k}"].to(v.device) for k, v in self.best_rest.items()
            }

    def _seat(self, places: list[MemberState]) -> None:
        """A new population for these places."""
        self.places, self.population = places, self.make([self.recipes[p.index] for p in places])
        if any(p.start for p in places):
            self.population.since([p.start * self.feed.steps for p in places])
        if any(r.early_stopping.patience for r in self.recipes.values()):
            stack = self.population.stack
            self.best, self.best_rest = (
                stack.theta.clone(),
                {k: v.clone() for k, v in stack.rest.items()},
            )
        self.tally = self._fresh()

    def _fill(self) -> None:
        """Give free places to those who wait."""
        alive = self._alive()
        free = self.room - len(alive)
        if not free or not self.waiting:
            return
        if alive and len(alive) < len(self.places):
            self._keep(alive)
        stayed = (self.places, self.population, self.best, self.best_rest) if alive else None
        self._seat([MemberState(i, self.at.epoch) for i in self.waiting[:free]])
        del self.waiting[:free]
        if stayed is None:
            return
        places, population, best, rest = stayed
        if best is not None and self.best is not None:
            self.best = population.stack.joined(best, self.population.stack, self.best)
            self.best_rest = {k: torch.cat([v, self.best_rest[k]]) for k, v in rest.items()}
        population.join(self.population)
        self.places, self.population = places + self.places, population
        self.tally = self._fresh()
        # Those who are to see the same batches sit together.
        self._keep(
            sorted(
                range(len(self.places)),
                key=lambda i: (kind(population.recipes[i]), self.places[i].start),
            )
        )

    def save(self) -> None:
        """A checkpoint of this very step."""
        self._clock()
        best = (
            {}
            if self.best is None
            else {"best": self.best, **{f"best.{k}": v for k, v in self.best_rest.items()}}
        )
        position = {
            "at": asdict(self.at),
            "places": [asdict(p) for p in self.places],
            "waiting": self.waiting,
        }
        self.ledger.save(
            self.steps, {**self.population.tensors(), **self.tally.tensors(), **best}, position
        )

    def train(self) -> None:
        """Run to the end. Raises Interrupted (saved), StorageError."""
        self.mark = time.perf_counter()
        self.saved = self.shown = self.mark
        while True:
            if not self.at.within:
                self._fill()
            if not self._alive():
                return
            self._epoch()

    def _alive(self) -> list[int]:
        return [i for i, p in enumerate(self.places) if not p.broke]

    def _epoch(self) -> None:
        population = self.population
        epochs = [self.at.epoch - p.start for p in self.places]
        population.sit(self.feed.segments(population.recipes, epochs))
        if not self.at.within:
            population.begin()
        for x, y, counts in self.feed.epoch(
            population.recipes, epochs, self.at.within, population.counts
        ):
            y, counts = population.targets(y, counts)
            losses, out = population.step(x, y, counts, self.steps)
            if population.broken:
                self._broke(x)
                if not self._alive():
                    self.at = Progress(self.at.epoch + 1)  # who waits begins with the next
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
            lr = population.lr(i, max(self.steps - 1, population.late[i]))
            error = explain(
                population.network(i),
                population.recipes[i],
                own,
                self.steps_of(place),
                self.feed.steps,
                lr,
            )
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
        rows = []
        with self.population.averaged():
            valid = self.scores(self.population, "valid") if self.data.size("valid") else None
            if valid:
                self._keep_best(
                    [i for i in alive if recipes[i].early_stopping.patience],
                    [v.loss for v in valid],
                )
        for i in alive:
            place = self.places[i]
            row: dict[str, Any] = {
                "epoch": at.epoch - place.start,
                "step": self.steps_of(place),
                "lr": self.population.lr(i, self.steps - 1),
                "train_loss": losses[i],
                f"train_{metric}": accuracies[i],
            }
            if valid:
                row |= valid[i].told("valid", metric)
            row["seconds"] = round(place.seconds, 4)
            rows.append((place, row))
        self.tally = self._fresh()
        self.ledger.epoch(rows)
        self._leave([i for i in alive if self._done(i)])

    def _keep_best(self, rows: list[int], losses: list[float]) -> None:
        better = []
        for i in rows:
            place, stopping = self.places[i], self.population.recipes[i].early_stopping
            if losses[i] < place.best_loss - stopping.min_delta:
                place.best_loss, place.best_epoch = losses[i], self.at.epoch - place.start
                better.append(i)
        if better and self.best is not None:
            stack = self.population.stack
            for (b, _), (p, _) in zip(
                stack.blocks(self.best), stack.blocks(stack.theta), strict=True
            ):
                b[better] = p[better]
            for k, v in stack.rest.items():
                self.best_rest[k][better] = v[better]

    def _done(self, i: int) -> bool:
        place, recipe = self.places[i], self.population.recipes[i]
        done = self.at.epoch - place.start
        patience = recipe.early_stopping.patience
        exhausted = bool(patience) and place.best_epoch > 0 and done - place.best_epoch >= patience
        return done >= recipe.epochs or exhausted or place.stopped

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
        with final.averaged():
            if kept and best is not None:
                stack = final.stack
                for (p, _), (b, _) in zip(
                    stack.blocks(stack.theta), stack.blocks(best), strict=True
                ):
                    p[kept] = b[kept]
                for k, v in stack.rest.items():
                    v[kept] = rest[k][kept]
            self.ledger.left(
                self, final, [(self.places[i], n) for i, n in zip(rows, numbers, strict=True)]
            )
        self._keep(stay) if stay else self.places.clear()

    def _keep(self, rows: list[int]) -> None:
        index = torch.tensor(rows, device=self.population.device)
        if self.best is not None:
            self.best = self.population.stack.only(self.best, index)
            self.best_rest = {k: v[index] for k, v in self.best_rest.items()}
        self.places = [self.places[i] for i in rows]
        self.population.keep(rows)
        self.tally = self.tally.keep(rows)

    def scores(
        self, population: Population, part: str, most: int | None = None
    ) -> list[evaluate.Score]:
        """What each network of the population scores on a part of the data."""
        return evaluate.scores(
            self.outputs(population, part, most),
            self.data.schema,
            evaluate.sentences(self.data, part, most),
        )

    def outputs(
        self, population: Population, part: str, most: int | None = None
    ) -> evaluate.Outputs:
        """Outputs [M, K, n] and targets [n] on a part of the data."""
        names = [r.normalize for r in population.recipes]
        segments = stretches(names)
        normalizers = [self.feed.normalizers[names[a]] for a, _ in segments]
        # Of many networks no larger batches than in training, for which there is room.
        rows = evaluate.rows_per_pass(self.data.schema)
        rows = max(rows // population.members, min(rows, population.recipes[0].batch_size))
        carries = bool(population.recipes[0].model.carry)
        with population.aside():
            outs = evaluate.part_outputs(
                lambda x: population.outputs(x, segments),
                self.data,
                part,
                normalizers,
                most,
                rows,
                carries,
            )
            yield from outs

    def _fresh(self) -> RunningMetrics:
        return RunningMetrics(self.population.members, not self.data.schema.is_regression)

    def _clock(self) -> None:
        """Share the time since the last call among those in training."""
        now, alive = time.perf_counter(), self._alive()
        for i in alive:
            self.places[i].seconds += (now - self.mark) / len(alive)
        self.mark = now
