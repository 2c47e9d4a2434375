"""The training loop: steps, epochs, early stopping, checkpoints, for one network or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from danlu.data import Data
from danlu.data.parts import PARTS
from danlu.predict.scores import Score
from danlu.recipe import Recipe
from danlu.train.batches import BatchStream
from danlu.train.batches.batch_stream import batch_key
from danlu.train.engine.best_weights import BestWeights
from danlu.train.engine.divergence import explain
from danlu.train.engine.members import (
    FinishedMember,
    MemberState,
    Meter,
    Progress,
    Recorder,
    follow_losses,
)
from danlu.train.engine.population import Population
from danlu.train.engine.recent_losses import RecentLosses
from danlu.train.engine.running_metrics import RunningMetrics
from danlu.train.engine.scorer import Scorer, evaluates_by_fold, needs_validation
from danlu.train.engine.stopping import StopRequest

MakePopulation = Callable[[Sequence[Recipe]], Population]

# A checkpoint that took t seconds is followed by at least so many times t of training: large
# populations take long to write.
_TRAINING_PER_SAVING = 20


class Loop:
    """Trains recipes to their ends, from wherever they stand.

    recipes: by index, in the order in which they are to begin. make: a population of some of them.
    capacity: networks that train together; between two epochs the next one in the queue takes a
    free slot. watched: figures of `danlu.metrics` that the history has of the validation part,
    beside those that early stopping needs. meter: measures some steps. parts: whose figures are
    asked for: without "valid" epochs are validated only where a recipe depends on that.
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
        watched: Sequence[str] = (),
        meter: Meter | None = None,
        parts: Sequence[str] = PARTS,
    ) -> None:
        self.recipes = recipes
        self.make = make
        self.capacity = capacity
        self.batches = batches
        self.data = data
        self.metric = data.schema.metric
        self.recorder = recorder
        self.checkpoint_every = checkpoint_every
        self.stop = stop
        self.meter = meter
        needed = [r.early_stopping.metric for r in recipes.values() if r.early_stopping.patience]
        self.watched = list(dict.fromkeys([*watched, *needed]))
        self.scorer = Scorer(data, batches, evaluates_by_fold(recipes.values(), data))
        self.validates = needs_validation(recipes.values(), data, parts)
        self.progress = Progress()
        self.queue = list(recipes)
        self.members: list[MemberState] = []
        self.best: BestWeights | None = None

    @property
    def steps(self) -> int:
        """Steps taken so far by those who were there from the beginning."""
        in_whole_epochs = self.progress.epoch * self.batches.steps
        return in_whole_epochs + self.progress.step

    def steps_of(self, member: MemberState) -> int:
        """Return the steps that a network has taken so far."""
        return self.steps - member.start_epoch * self.batches.steps

    def epochs_of(self, member: MemberState) -> int:
        """Return the epochs that a network has finished."""
        return self.progress.epoch - member.start_epoch

    def effort(self, member: MemberState) -> dict[str, Any]:
        """Return how long a network was trained."""
        return member.effort(self.epochs_of(member), self.steps_of(member))

    def restore(self, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.progress = Progress(**position["progress"])
        self.queue = position["queue"]
        members = [MemberState(**fields) for fields in position["members"]]
        self._start_members(members)
        self.population.restore(tensors)
        self.population.set_rate_drops([member.rate_drops for member in members])
        self.metrics.restore(tensors)
        self.recent.restore(tensors)
        if self.best is not None:
            self.best.restore(tensors)
        if self.meter is not None:
            self.meter.restore(tensors)

    def save(self) -> None:
        """Write a checkpoint of this very step."""
        self._share_time()
        tensors = {
            **self.population.tensors(),
            **self.metrics.tensors(),
            **self.recent.tensors(),
        }
        if self.best is not None:
            tensors |= self.best.tensors()
        if self.meter is not None:
            tensors |= self.meter.tensors()
        position = {
            "progress": asdict(self.progress),
            "members": [asdict(member) for member in self.members],
            "queue": self.queue,
        }
        self.recorder.save(self.steps, tensors, position)

    def train(self) -> None:
        """Train to the end. Raises Interrupted (saved), StorageError."""
        self.shared_until = self.saved_at = self.shown_at = time.perf_counter()
        while True:
            # In the middle of an epoch, after a checkpoint, nobody can join.
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
        recipes = [self.recipes[member.index] for member in members]
        self.population = self.make(recipes)
        if any(member.start_epoch for member in members):
            starts = [member.start_epoch * self.batches.steps for member in members]
            self.population.set_start_steps(starts)
        # Those still in the queue count as well: they join with best weights of their own.
        if any(recipe.early_stopping.patience for recipe in self.recipes.values()):
            self.best = BestWeights.start(self.population.stack)
        self.metrics = self._new_metrics()
        self.recent = RecentLosses(len(members))

    def _fill_slots(self) -> None:
        """Give free slots to the next ones in the queue."""
        alive = self._alive()
        free = self.capacity - len(alive)
        if not free or not self.queue:
            return
        if alive and len(alive) < len(self.members):
            self._keep(alive)
        members = self.members
        best = self.best
        recent = self.recent if alive else None
        population = self.population if alive else None

        epoch = self.progress.epoch
        newcomers = [MemberState(i, epoch) for i in self.queue[:free]]
        self._start_members(newcomers)
        del self.queue[:free]
        if population is None or recent is None:
            return

        self.recent = recent.join(len(newcomers))
        if best is not None and self.best is not None:
            self.best = best.join(population.stack, self.best, self.population.stack)
        # The newcomers' rows come after those that go on.
        population.join(self.population)
        self.population = population
        self.members = members + newcomers
        self.metrics = self._new_metrics()
        self._keep(self._order_of_batches())

    def _order_of_batches(self) -> list[int]:
        """Return the networks with those that see the same batches side by side."""
        recipes = self.population.recipes

        def key(i: int) -> Any:
            return batch_key(recipes[i]), self.members[i].start_epoch

        return sorted(range(len(self.members)), key=key)

    def _epoch(self) -> None:
        """Train the rest of an epoch."""
        population = self.population
        progress = self.progress
        epochs = [self.epochs_of(member) for member in self.members]
        batches = self.batches.epoch(
            population.recipes, epochs, progress.step, population.networks.counts
        )
        measured_step = -1
        if self.meter is not None:
            measured_step = self.meter.next_step(population, self.steps)
        for batch in batches:
            step = self.steps
            is_measured = step == measured_step
            if is_measured and self.meter is not None:
                self.meter.before_step(self)
            result = population.step(batch, step)
            if is_measured and self.meter is not None:
                self.meter.after_step(self)
                measured_step = self.meter.next_step(population, step + 1)
            if population.diverged:
                self._record_divergence(batch.x, result.losses)
                if not self._alive():
                    self._share_time()
                    self._hand_over(self._rescued())
                    self.progress = Progress(progress.epoch + 1)  # the queue goes on with the next
                    return
            self.metrics.add(result)
            if not population.diverged:
                self.recent.add(result.losses)
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
        is_due = now - self.saved_at > self.checkpoint_every
        if not is_due and not self.stop.asked:
            return
        self.save()
        self.saved_at = time.perf_counter()
        if self.checkpoint_every:
            time_to_save = self.saved_at - now
            self.saved_at += _TRAINING_PER_SAVING * time_to_save
        if self.stop.asked:
            raise self.recorder.interrupted(self.steps)

    def recent_losses(self, member: MemberState) -> list[float]:
        """Return the losses of a network's last steps."""
        return self.recent.of(self.members.index(member))

    def _record_divergence(self, x: Tensor, losses: Tensor) -> None:
        """Mark networks whose loss is not finite; the others go on as if nothing had happened.

        losses: of this step.
        """
        population = self.population
        self.recent.add(losses)
        for i in population.diverged:
            member = self.members[i]
            if member.diverged:
                continue
            batch = population.batch_of[i] if len(x) > 1 else 0
            # Before the explanation: its pass in training mode moves running statistics.
            weights = population.stack.state_dict(i)
            if self.meter is not None:
                weights = self.meter.last_finite(i, weights)
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
            if member.best_epoch:
                member.diverged_step = error.step
                member.diverged_epochs = self.epochs_of(member)
            else:
                self.recorder.diverged(member, weights, error, self.recent.of(i))

    def _end_epoch(self) -> None:
        """Validate, write down a row for each network, and hand over those that are done."""
        self._share_time()
        alive = self._alive()
        self.progress.epoch += 1
        self.progress.step = 0
        self.metrics.flush()
        valid = self._validate(alive)
        # Numbers, not tensors: from here on everything is written down.
        losses = self.metrics.mean().tolist()
        accuracies = self.metrics.accuracy().tolist()
        rows = []
        for i in alive:
            figures = {"train_loss": losses[i], f"train_{self.metric}": accuracies[i]}
            if valid:
                figures |= valid[i].figures("valid", self.metric)
            rows.append((self.members[i], self._row(i, figures)))
        self.metrics = self._new_metrics()
        judged = [score.loss for score in valid] if valid else losses
        follow_losses(self.members, self.population.recipes, alive, judged, self.progress.epoch)
        self.population.set_rate_drops([member.rate_drops for member in self.members])
        self.recorder.epoch_ended(rows)
        finished = [i for i in alive if self._is_finished(i)]
        self._hand_over(finished + self._rescued())

    def _row(self, i: int, figures: dict[str, float]) -> dict[str, Any]:
        """Return a network's row of the history."""
        member = self.members[i]
        return {
            "epoch": self.epochs_of(member),
            "step": self.steps_of(member),
            **self.population.learning_rates(i, self.steps - 1),
            **figures,
            "seconds": round(member.seconds, 4),
        }

    def _validate(self, alive: list[int]) -> list[Score] | None:
        """Return each network's validation score, and keep the best weights by it."""
        if not self.validates:
            return None
        population = self.population
        with population.with_averages():
            scores = self.scorer.validation_scores(population, self.watched)
            if self.best is not None:
                # Within the context: the score is that of the averages, so these are kept.
                stops_early = [i for i in alive if population.recipes[i].early_stopping.patience]
                self.best.update(
                    population.stack,
                    self.members,
                    population.recipes,
                    stops_early,
                    scores,
                    self.progress.epoch,
                )
        return scores

    def _is_finished(self, i: int) -> bool:
        member = self.members[i]
        recipe = self.population.recipes[i]
        epochs = self.epochs_of(member)
        if member.stopped or epochs >= recipe.epochs:
            return True
        patience = recipe.early_stopping.patience
        if not patience or not member.improved_epoch:
            return False
        return epochs - member.improved_epoch >= patience

    def _rescued(self) -> list[int]:
        """Return networks that diverged in this epoch and have best weights from before."""
        return [i for i, member in enumerate(self.members) if member.diverged_step]

    def _hand_over(self, rows: list[int]) -> None:
        """Hand finished networks to the recorder, with their best weights where those were kept.

        The others go on as a smaller population.
        """
        if not rows:
            return
        leaving = set(rows)
        staying = [i for i in self._alive() if i not in leaving]
        population = self.population
        best = self.best
        final_rows = rows
        if staying:
            # What the recorder does to their population must not reach those who go on.
            if best is not None:
                best = best.select(population.stack, rows)
            population = population.split_off(rows)
            final_rows = list(range(len(rows)))
        finished = []
        for i, row in zip(rows, final_rows, strict=True):
            finished.append(FinishedMember(self.members[i], row))

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
        self.recent = self.recent.select(rows)

    def _new_metrics(self) -> RunningMetrics:
        return RunningMetrics(self.population.members, not self.data.schema.is_regression)

    def _share_time(self) -> None:
        """Share the time since the last call among the networks in training."""
        now = time.perf_counter()
        alive = self._alive()
        passed = now - self.shared_until
        for i in alive:
            self.members[i].seconds += passed / len(alive)
        self.shared_until = now
