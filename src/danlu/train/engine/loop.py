"""The training loop: steps, epochs, early stopping, checkpoints, for one network or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from danlu.data import Data
from danlu.predict import evaluate
from danlu.recipe import Recipe
from danlu.train.batches import BatchStream
from danlu.train.batches.batch_stream import batch_key, runs_of_equal
from danlu.train.engine.best_weights import BestWeights
from danlu.train.engine.divergence import explain
from danlu.train.engine.members import FinishedMember, MemberState, Progress, Recorder
from danlu.train.engine.population import Population
from danlu.train.engine.running_metrics import RunningMetrics
from danlu.train.engine.stopping import StopRequest

MakePopulation = Callable[[Sequence[Recipe]], Population]

# A checkpoint that took t seconds is followed by at least so many times t of training: large
# populations take long to write.
_TRAINING_PER_SAVING = 20


class Loop:
    """Trains recipes to their ends, from wherever they stand.

    recipes: by index, in the order in which they are to begin. make: a population of some of them.
    capacity: networks that train together; between two epochs the next one in the queue takes a
    free slot.
    """

    def __init__(
        self,
        recipes: Mapping[int, Recipe],
        make: MakePopulation,
        capacity: int,
        batches: BatchStream,
        data: Data,
        recorder: Recorder,
        checkpoint_every: float,
        stop: StopRequest,
    ) -> None:
        self.recipes, self.make, self.capacity = recipes, make, capacity
        self.batches, self.data, self.metric = batches, data, data.schema.metric
        self.recorder, self.checkpoint_every, self.stop = recorder, checkpoint_every, stop
        self.progress, self.queue = Progress(), list(recipes)
        self.members: list[MemberState] = []
        self.best: BestWeights | None = None

    @property
    def steps(self) -> int:
        """Steps taken so far by those who were there from the beginning."""
        return self.progress.epoch * self.batches.steps + self.progress.step

    def steps_of(self, member: MemberState) -> int:
        """Return the steps that a network has taken so far."""
        return self.steps - member.start_epoch * self.batches.steps

    def epochs_of(self, member: MemberState) -> int:
        """Return the epochs that a network has finished."""
        return self.progress.epoch - member.start_epoch

    def effort(self, member: MemberState) -> dict[str, Any]:
        """Return how long a network was trained, as part of its result."""
        effort: dict[str, Any] = {
            "epochs": self.epochs_of(member),
            "steps": self.steps_of(member),
            "seconds": round(member.seconds, 3),
        }
        if member.best_epoch:
            effort["best_epoch"] = member.best_epoch
        return effort

    def restore(self, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.progress, self.queue = Progress(**position["progress"]), position["queue"]
        self._start_members([MemberState(**fields) for fields in position["members"]])
        self.population.restore(tensors)
        self.metrics.restore(tensors)
        if self.best is not None:
            self.best.restore(tensors)

    def save(self) -> None:
        """Write a checkpoint of this very step."""
        self._share_time()
        tensors = {**self.population.tensors(), **self.metrics.tensors()}
        if self.best is not None:
            tensors |= self.best.tensors()
        position = {
            "progress": asdict(self.progress),
            "members": [asdict(member) for member in self.members],
            "queue": self.queue,
        }
        self.recorder.save(self.steps, tensors, position)

    def train(self) -> None:
        """Train to the end. Raises Interrupted (saved), StorageError."""
        self.shared_until = time.perf_counter()
        self.saved_at = self.shown_at = self.shared_until
        while True:
            if self.progress.step == 0:
                self._fill_slots()
            if not self._alive():
                return
            self._epoch()

    def _alive(self) -> list[int]:
        """Return the numbers of the networks that have not diverged."""
        return [i for i, member in enumerate(self.members) if not member.diverged]

    def _start_members(self, members: list[MemberState]) -> None:
        """Make a new population of these members."""
        self.members = members
        self.population = self.make([self.recipes[member.index] for member in members])
        if any(member.start_epoch for member in members):
            starts = [member.start_epoch * self.batches.steps for member in members]
            self.population.set_start_steps(starts)
        if any(recipe.early_stopping.patience for recipe in self.recipes.values()):
            self.best = BestWeights.start(self.population.stack)
        self.metrics = self._new_metrics()

    def _fill_slots(self) -> None:
        """Give free slots to the next ones in the queue."""
        alive = self._alive()
        free = self.capacity - len(alive)
        if not free or not self.queue:
            return
        if alive and len(alive) < len(self.members):
            self._keep(alive)
        members, best = self.members, self.best
        population = self.population if alive else None
        self._start_members([MemberState(i, self.progress.epoch) for i in self.queue[:free]])
        del self.queue[:free]
        if population is None:
            return
        if best is not None and self.best is not None:
            newcomers = self.population.stack
            self.best = best.join(population.stack, self.best, newcomers)
        population.join(self.population)
        self.members, self.population = members + self.members, population
        self.metrics = self._new_metrics()
        self._keep(self._order_of_batches())

    def _order_of_batches(self) -> list[int]:
        """Return the networks with those that see the same batches side by side."""
        recipes = self.population.recipes

        def key(i: int) -> Any:
            return batch_key(recipes[i]), self.members[i].start_epoch

        return sorted(range(len(self.members)), key=key)

    def _epoch(self) -> None:
        population, progress = self.population, self.progress
        epochs = [self.epochs_of(member) for member in self.members]
        counts = population.networks.counts
        for batch in self.batches.epoch(population.recipes, epochs, progress.step, counts):
            result = population.step(batch, self.steps)
            if population.diverged:
                self._record_divergence(batch.x)
                if not self._alive():
                    self.progress = Progress(progress.epoch + 1)  # the queue goes on with the next
                    return
            self.metrics.add(result)
            progress.step += 1
            self._between_steps()
        self._end_epoch()

    def _between_steps(self) -> None:
        """Report progress, write a checkpoint, stop when asked."""
        now = time.perf_counter()
        if now - self.shown_at > self.recorder.interval:
            self.shown_at = now
            self.metrics.flush()
            self.recorder.stepped(self)
        if self.stop.asked or now - self.saved_at > self.checkpoint_every:
            self.save()
            self.saved_at = time.perf_counter()
            if self.checkpoint_every:
                self.saved_at += _TRAINING_PER_SAVING * (self.saved_at - now)
            if self.stop.asked:
                raise self.recorder.interrupted(self.steps)

    def _record_divergence(self, x: Tensor) -> None:
        """Mark networks whose loss is not finite; the others go on as if nothing had happened."""
        population = self.population
        for i in population.diverged:
            member = self.members[i]
            if member.diverged:
                continue
            batch = population.batch_of[i] if len(x) > 1 else 0
            weights = population.stack.state_dict(i)
            last_step = max(self.steps - 1, population.networks.start_steps[i])
            error = explain(
                population.module(i),
                population.recipes[i],
                x[batch],
                self.steps_of(member),
                self.batches.steps,
                population.lr(i, last_step),
            )
            member.diverged = True
            if population.members > 1:
                population.zero_member(i)
            self.recorder.diverged(member, weights, error)

    def _end_epoch(self) -> None:
        self._share_time()
        alive = self._alive()
        self.progress.epoch, self.progress.step = self.progress.epoch + 1, 0
        self.metrics.flush()
        valid = self._validate(alive)
        losses, accuracies = self.metrics.mean().tolist(), self.metrics.accuracy().tolist()
        rows = []
        for i in alive:
            member = self.members[i]
            row: dict[str, Any] = {
                "epoch": self.epochs_of(member),
                "step": self.steps_of(member),
                **self.population.learning_rates(i, self.steps - 1),
                "train_loss": losses[i],
                f"train_{self.metric}": accuracies[i],
            }
            if valid:
                row |= valid[i].figures("valid", self.metric)
            row["seconds"] = round(member.seconds, 4)
            rows.append((member, row))
        self.metrics = self._new_metrics()
        self.recorder.epoch_ended(rows)
        self._hand_over([i for i in alive if self._is_finished(i)])

    def _validate(self, alive: list[int]) -> list[evaluate.Score] | None:
        """Return each network's validation score, and keep the best weights by it."""
        if not self.data.size("valid"):
            return None
        population = self.population
        with population.with_averages():
            scores = self.scores(population, "valid")
            if self.best is not None:
                patient = [i for i in alive if population.recipes[i].early_stopping.patience]
                self.best.update(
                    population.stack,
                    self.members,
                    population.recipes,
                    patient,
                    [score.loss for score in scores],
                    self.progress.epoch,
                )
        return scores

    def _is_finished(self, i: int) -> bool:
        member, recipe = self.members[i], self.population.recipes[i]
        done, patience = self.epochs_of(member), recipe.early_stopping.patience
        has_no_patience_left = (
            bool(patience) and member.best_epoch > 0 and done - member.best_epoch >= patience
        )
        return done >= recipe.epochs or has_no_patience_left or member.stopped

    def _hand_over(self, rows: list[int]) -> None:
        """Hand finished networks to the recorder, with their best weights where those were kept.

        The others go on as a smaller population.
        """
        if not rows:
            return
        staying = [i for i in self._alive() if i not in set(rows)]
        population, best = self.population, self.best
        final_rows = rows
        if staying:
            best = best.select(population.stack, rows) if best is not None else None
            population = population.split_off(rows)
            final_rows = list(range(len(rows)))
        finished = [
            FinishedMember(self.members[i], row) for i, row in zip(rows, final_rows, strict=True)
        ]
        with population.with_averages():
            with_best = [member.row for member in finished if member.state.best_epoch]
            if best is not None and with_best:
                best.put(population.stack, with_best)
            self.recorder.finished(self, population, finished)
        if staying:
            self._keep(staying)
        else:
            self.members.clear()

    def _keep(self, rows: list[int]) -> None:
        """Go on with these networks alone, in that order."""
        if self.best is not None:
            self.best = self.best.select(self.population.stack, rows)
        self.members = [self.members[i] for i in rows]
        self.population.keep(rows)
        self.metrics = self.metrics.select(rows)

    def scores(
        self, population: Population, part: str, most: int | None = None
    ) -> list[evaluate.Score]:
        """Return what each network of the population scores on a part of the data."""
        outs = self.outputs(population, part, most)
        sizes = evaluate.sentence_lengths(self.data, part, most)
        return evaluate.scores(outs, self.data.schema, sizes)

    def outputs(
        self, population: Population, part: str, most: int | None = None
    ) -> evaluate.Outputs:
        """Yield outputs [M, K, n] and targets [n] on a part of the data."""
        kinds = [recipe.normalize for recipe in population.recipes]
        segments = runs_of_equal(kinds)
        normalizers = [self.batches.normalizers[kinds[a]] for a, _ in segments]
        # Of many networks no larger batches than in training, for which there is room.
        rows = evaluate.rows_per_pass(self.data.schema)
        batch_size = population.recipes[0].batch_size
        at_once = max(rows // population.members, min(rows, batch_size))
        stateful = bool(population.recipes[0].model.stateful)
        with population.separate_state():
            yield from evaluate.part_outputs(
                lambda x: population.outputs(x, segments),
                self.data,
                part,
                normalizers,
                most,
                at_once,
                stateful,
            )

    def _new_metrics(self) -> RunningMetrics:
        return RunningMetrics(self.population.members, not self.data.schema.is_regression)

    def _share_time(self) -> None:
        """Share the time since the last call among the networks in training."""
        now, alive = time.perf_counter(), self._alive()
        for i in alive:
            self.members[i].seconds += (now - self.shared_until) / len(alive)
        self.shared_until = now
