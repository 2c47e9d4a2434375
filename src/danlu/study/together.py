"""Several networks of a study as one predictor: their mean.

Legend: n examples, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danlu.data import Data, Schema
from danlu.errors import RunError, wrong
from danlu.guest import guest
from danlu.predict import evaluate
from danlu.predict.predictions import Prediction
from danlu.predict.scores import PassOutputs, Score, scores
from danlu.runs import Study
from danlu.runs.run import Run


def outputs_of(run: Run, data: Data, part: str) -> tuple[Tensor, Tensor]:
    """Return a network's outputs [n, K] on a part, and the targets [n]."""
    forward = evaluate.forward_of(run.model())
    passes = evaluate.part_outputs(forward, data, part, [run.normalizer])
    return evaluate.collect(passes, len(data) if part == "all" else data.size(part))


def average(outputs: Sequence[Tensor], schema: Schema) -> Tensor:
    """Return the ensemble's outputs: the mean number, or the logarithm of the mean probability."""
    stacked = torch.stack(list(outputs))
    if schema.is_regression:
        return stacked.mean(0)
    return stacked.softmax(-1).mean(0).log()


def figures_of(out: Tensor, y: Tensor, schema: Schema, metric: str) -> dict[str, float]:
    """Return loss, accuracy (or R²) and a figure of outputs [n, K]; metric: without its part."""
    score = _score_of(out, y, schema, [metric])
    return {"loss": score.loss, schema.metric: score.accuracy, **score.more, "n": score.n}


def _score_of(out: Tensor, y: Tensor, schema: Schema, metrics: Sequence[str]) -> Score:
    outputs = PassOutputs(out.t().unsqueeze(0), y)
    (score,) = scores(iter([outputs]), schema, more=metrics)
    return score


class Together:
    """Networks of a study that predict together.

    study, path, members: whose numbers they are, which a kind of ensemble says.
    """

    study: Study
    path: Path

    @property
    def members(self) -> Sequence[int]:
        """The numbers of the networks."""
        raise NotImplementedError

    @property
    def schema(self) -> Schema:
        """What the examples are."""
        return self.study.schema

    @cached_property
    def runs(self) -> list[Run]:
        """The networks, each as a run."""
        return [self.study.run(i) for i in self.members]

    @guest
    def predict(self, x: Any, samples: int = 0, seed: int = 0) -> Prediction:
        """Predict by the mean of the networks, with their spread; see `Run.predict`.

        Raises RunError for samples: the networks' spread takes the place of dropout's.
        """
        if samples:
            rule = "must be 0: the spread is that of the networks"
            raise RunError(wrong("samples", samples, rule))
        each = [run.predict(x, seed=seed) for run in self._able_runs()]
        if self.schema.is_regression:
            numbers = torch.stack([p.values for p in each])
            return Prediction(numbers.mean(0), None, numbers.std(0), ())
        probabilities = torch.stack([p.probabilities for p in each if p.probabilities is not None])
        mean = probabilities.mean(0)
        return Prediction(mean.argmax(1), mean, probabilities.std(0), self.schema.classes)

    @guest
    def evaluate(self, data: Any = None, part: str = "test") -> Score:
        """Return loss, accuracy and the other figures of the ensemble; see `Run.evaluate`."""
        data = self.study.data_to_score(data, part)
        outputs = [outputs_of(run, data, part) for run in self._able_runs()]
        targets = outputs[0][1]
        ensemble = average([out for out, _ in outputs], self.schema)
        return _score_of(ensemble, targets, self.schema, self.schema.metrics)

    def _able_runs(self) -> list[Run]:
        """Return the networks that can predict. Raises RunError where there are none."""
        if not self.runs:
            raise RunError(f"every network of {str(self.path)!r} diverged; none can predict")
        return self.runs
