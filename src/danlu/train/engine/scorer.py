"""What the networks of a population score on the parts of the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from danlu.data import Data
from danlu.optim.schedules import SCHEDULES
from danlu.predict import evaluate
from danlu.predict.scores import Outputs, Score, scores, scores_of_own_examples
from danlu.recipe import Recipe
from danlu.recipe.sample import left_out, times_drawn
from danlu.train.batches import BatchStream
from danlu.train.batches.batch_stream import runs_of_equal
from danlu.train.engine.population import Population


def evaluates_by_fold(recipes: Iterable[Recipe], data: Data) -> bool:
    """Whether networks are validated on the folds they leave out: without a validation part."""
    if data.size("valid") or data.schema.each_token:
        return False
    return all(recipe.sample.folds for recipe in recipes)


def needs_validation(recipes: Iterable[Recipe], data: Data, parts: Sequence[str]) -> bool:
    """Whether networks are to be validated after each epoch, and can be.

    parts: whose figures are asked for.
    """
    every = list(recipes)
    if not data.size("valid") and not evaluates_by_fold(every, data):
        return False
    if "valid" in parts:
        return True
    return any(r.early_stopping.patience or SCHEDULES[r.schedule.name].follows_loss for r in every)


@dataclass(frozen=True)
class Scorer:
    """Scores populations; by_fold: whether each network's fold is its validation part."""

    data: Data
    batches: BatchStream
    by_fold: bool

    def scores(
        self,
        population: Population,
        part: str,
        most: int | None = None,
        more: Sequence[str] = (),
    ) -> list[Score]:
        """Return what each network of the population scores on a part of the data."""
        outs = self.outputs(population, part, most)
        sizes = evaluate.sentence_lengths(self.data, part, most)
        return scores(outs, self.data.schema, sizes, more)

    def validation_scores(self, population: Population, more: Sequence[str] = ()) -> list[Score]:
        """Return what each network scores on the validation part, or the fold it leaves out."""
        if not self.by_fold:
            return self.scores(population, "valid", more=more)
        n, labels = self.data.size("train"), self.data.training_labels
        folds = []
        for recipe in population.recipes:
            folds.append(left_out(recipe.sample, n, labels).nonzero().flatten())
        outs = self.outputs(population, "train")
        return scores_of_own_examples(outs, self.data.schema, folds, more)

    def training_scores(
        self, population: Population, most: int | None = None, more: Sequence[str] = ()
    ) -> list[Score]:
        """Return what each network scores on the training examples that it has seen.

        most: on an even sample of so many.
        """
        n, labels = self.data.size("train"), self.data.training_labels
        seen = [times_drawn(recipe.sample, n, labels) for recipe in population.recipes]
        if self.data.schema.each_token or all(times is None for times in seen):
            return self.scores(population, "train", most, more)
        own = []
        for times in seen:
            examples = torch.arange(n) if times is None else times.nonzero().flatten()
            own.append(evaluate.even_sample(examples, most))
        outs = self.outputs(population, "train")
        return scores_of_own_examples(outs, self.data.schema, own, more)

    def outputs(self, population: Population, part: str, most: int | None = None) -> Outputs:
        """Yield outputs [M, K, n] and targets [n] on a part of the data."""
        first = population.recipes[0]
        kinds = [recipe.normalize for recipe in population.recipes]
        segments = runs_of_equal(kinds)
        normalizers = []
        for a, _ in segments:
            normalizers.append(self.batches.normalizers[kinds[a]])
        # Of many networks no larger batches than in training, for which there is room.
        rows = evaluate.rows_per_pass(self.data.schema)
        as_in_training = min(rows, first.batch_size)
        at_once = max(rows // population.members, as_in_training)
        with population.separate_state():
            yield from evaluate.part_outputs(
                lambda x: population.outputs(x, segments),
                self.data,
                part,
                normalizers,
                most,
                at_once,
                stateful=bool(first.model.stateful),
            )
