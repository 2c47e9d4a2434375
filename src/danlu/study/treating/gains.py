"""What a candidate gains over a control, by seed.

A gain is positive where the candidate is better, whichever way the figure counts. Legend: n seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from danlu import metrics
from danlu.data import Data
from danlu.predict import evaluate
from danlu.predict.scores import scores
from danlu.statistics import Estimate, estimate, half_width

ALPHA = 0.05
LEVEL_OF_DATA = 0.99  # of the interval by which an edit of the data is judged
BETTER, WORSE, OPEN = "better", "worse", "no difference shown"


@dataclass(frozen=True)
class Scale:
    """How figures are compared.

    metric: with its part. constant: what the best constant answer reaches, which a training that
    diverged counts as. examples: of the part.
    """

    metric: str
    constant: float
    examples: int

    @classmethod
    def of(cls, metric: str, data: Data) -> Scale:
        """Return the scale of a figure on these data."""
        part, name = metrics.part_and_name(metric)
        assert part is not None
        return cls(metric, _constant_answer(data, part, name), data.size(part))

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the figure is better."""
        return metrics.higher_is_better(self.metric)

    def settle(self, figure: float) -> float:
        """Return a figure that can be compared: that of the best constant answer at the least.

        Without a lowest value, as of a loss or R², one training that went astray would hide what
        all others say.
        """
        if not math.isfinite(figure):
            return self.constant
        _, name = metrics.part_and_name(self.metric)
        if name in ("r2", "loss", "mae", "rmse", "median_error"):
            keep = max if self.higher_is_better else min
            return keep(figure, self.constant)
        return figure

    def gains(self, figures: Sequence[float], control: Sequence[float]) -> list[float]:
        """Return the gain of each seed [n]."""
        sign = 1 if self.higher_is_better else -1
        return [sign * (x - y) for x, y in zip(figures, control, strict=True)]

    def gain(
        self, figures: Sequence[float], control: Sequence[float], level: float = 1 - ALPHA
    ) -> Estimate:
        """Return the mean gain over seeds with its interval.

        Figures of n examples are no finer than 1/n: where seeds differ by less, as on small parts
        they all may gain the same, that is taken for their standard deviation.
        """
        found = estimate(self.gains(figures, control), level)
        finest = self.finest
        if found.n < 2 or math.isnan(found.std) or found.std >= finest or not finest:
            return found
        half = half_width(finest, found.n, level)
        return Estimate(found.mean, found.mean - half, found.mean + half, finest, found.n)

    @property
    def finest(self) -> float:
        """The finest difference of a figure that is a share of examples; 0 for others."""
        _, name = metrics.part_and_name(self.metric)
        is_share = self.higher_is_better and name != "r2"
        return 1 / self.examples if is_share and self.examples else 0.0


def _constant_answer(data: Data, part: str, name: str) -> float:
    """Return a figure of the best constant answer: classes by their shares, or the mean number."""
    schema = data.schema
    shares = torch.tensor([float(n) for n in data.training_class_counts] or [1.0])
    if schema.is_regression:
        answer = torch.zeros(1)
    elif len(shares) == schema.outputs:
        answer = (shares / shares.sum()).clamp_min(1e-12).log()
    else:
        answer = torch.zeros(schema.outputs)

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, None]:
        count = x.shape[1] * (x.shape[2] if schema.each_token else 1)
        return answer.view(1, -1, 1).expand(1, len(answer), count), None

    passes = evaluate.part_outputs(
        forward, data, part, [data.normalizer(data.schema.normalization("none"))]
    )
    (score,) = scores(passes, schema, evaluate.sentence_lengths(data, part), more=[name])
    return score.figure(name)


def levels_of_tests(has_data_edits: bool) -> tuple[float, float, float]:
    """Return the levels of the intervals of a round's tests.

    Of the best candidate, of it on further seeds, and of the second. Beyond either end lies half of
    the rest, so that the chances of a false gain sum to 2.5 % (Bonferroni), with that of an edit of
    the data, which comes last.
    """
    return (0.98, 0.985, 0.995) if has_data_edits else (0.975, 0.985, 0.99)


def verdict(gain: Estimate) -> str:
    """Return "better" or "worse" where the interval excludes 0."""
    if gain.low > 0:
        return BETTER
    return WORSE if gain.high < 0 else OPEN
