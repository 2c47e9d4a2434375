"""What networks score by their outputs: loss, accuracy, and the figures of `danlu.metrics`.

Legend: M networks, n targets, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from danlu import metrics
from danlu.data import Schema
from danlu.data.target_scale import in_units, standardised
from danlu.predict import ner_metrics
from danlu.predict.ner_metrics import ALL, EntityCounts


@dataclass(frozen=True)
class Score:
    """Mean loss and accuracy (or R²) on n examples; on n tokens, where each has a target.

    The loss is cross-entropy in nats, or squared error of the standardised target. entities: how
    those are found that tags name. more: other figures of `danlu.metrics` that were asked for;
    predicted: what they are computed from.
    """

    loss: float
    accuracy: float
    n: int
    entities: EntityCounts | None = None
    more: Mapping[str, float] = field(default_factory=dict)
    predicted: metrics.Predicted | None = field(default=None, repr=False, compare=False)

    @property
    def f1(self) -> float | None:
        """F1 of whole entities, where tags name some."""
        if self.entities is None:
            return None
        return self.entities.f1

    def figures(self, part: str, metric: str) -> dict[str, float]:
        """Return the figures by name, such as test_loss."""
        figures = {
            f"{part}_loss": self.loss,
            f"{part}_{metric}": self.accuracy,
        }
        if self.f1 is not None:
            figures[f"{part}_f1"] = self.f1
        for name, value in self.more.items():
            figures[f"{part}_{name}"] = value
        return figures

    def figure(self, name: str) -> float:
        """Return a figure by its name in `danlu.metrics`."""
        known = {"loss": self.loss, "accuracy": self.accuracy, "r2": self.accuracy, **self.more}
        if self.f1 is not None:
            known["f1"] = self.f1
        return known[name]


class PassOutputs(NamedTuple):
    """Outputs [M, K, n] and targets [n] of a pass.

    chosen [M, n]: what is predicted, where that is not the largest output.
    """

    outputs: Tensor
    targets: Tensor
    chosen: Tensor | None = None

    def predicted(self) -> Tensor:
        """Return what is predicted [M, n]."""
        if self.chosen is not None:
            return self.chosen
        return self.outputs.argmax(1)


Outputs = Iterator[PassOutputs]


def hits(out: Tensor, y: Tensor) -> Tensor:
    """Return where the first of the largest outputs is the right class, [M, B].

    out [M, K, B], y [M or 1, B].
    """
    members, _, size = out.shape
    classes = y.unsqueeze(1).expand(members, 1, size)
    # argmax would be simpler, and on a CPU several times as slow.
    top = out.amax(1, keepdim=True)  # [M, 1, B]
    # Counting is many times as fast as a sum of booleans.
    tops = int(torch.count_nonzero(out == top))
    if tops == top.numel():
        of_class = out.gather(1, classes)
        return (of_class == top).squeeze(1)
    return out.argmax(1) == classes.squeeze(1)  # ties, or NaN: the slow way


def scores(
    outs: Outputs, schema: Schema, sizes: Sequence[int] = (), more: Sequence[str] = ()
) -> list[Score]:
    """Return loss and accuracy of each of M networks, and figures of `danlu.metrics`.

    sizes: tokens of each sentence, where tags name entities. Examples of classes that the networks
    do not know (target −1) count as errors, and have no loss.
    """
    needed = metrics.computed(more)
    kept = _KeptPredictions(schema) if needed else None
    if kept is not None:
        outs = kept.watching(outs)
    if schema.is_regression:
        found = _regression_scores(outs, schema)
    else:
        found = _classification_scores(outs, schema, sizes)
    if kept is None:
        return found
    with_more = []
    for score, predicted in zip(found, kept.of_each(), strict=True):
        figures = metrics.compute(needed, predicted)
        with_more.append(replace(score, more=figures, predicted=predicted))
    return with_more


def scores_of_own_examples(
    outs: Outputs, schema: Schema, own: Sequence[Tensor], more: Sequence[str] = ()
) -> list[Score]:
    """Return what each of M networks scores on examples of its own: their numbers, ascending.

    For examples with one target each.
    """
    kept: list[list[PassOutputs]] = [[] for _ in own]
    start = 0
    for passed in outs:
        end = start + len(passed.targets)
        for of_network, out, numbers in zip(kept, passed.outputs, own, strict=True):
            # Picked pass by pass: the outputs of all networks on all examples may not fit.
            first, last = torch.searchsorted(numbers, torch.tensor([start, end])).tolist()
            if first < last:
                rows = numbers[first:last] - start
                picked = out[:, rows.to(out.device)].unsqueeze(0).cpu()
                of_network.append(PassOutputs(picked, passed.targets[rows.to(out.device)].cpu()))
        start = end
    found = []
    for of_network in kept:
        found += scores(iter(of_network), schema, more=more)
    return found


class _KeptPredictions:
    """What M networks predict on a part, pass by pass: for figures that need all of it at once."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.targets: list[Tensor] = []
        self.chosen: list[Tensor] = []  # [M, n] of each pass
        self.probabilities: list[Tensor] = []  # [M, K, n] of each pass

    def watching(self, outs: Outputs) -> Outputs:
        """Pass outputs on, and keep what is needed of them."""
        for passed in outs:
            self.targets.append(passed.targets.cpu())
            if self.schema.is_regression:
                self.chosen.append(in_units(passed.outputs[:, 0].double(), self.schema).cpu())
            else:
                self.chosen.append(passed.predicted().cpu())
            if self.schema.task == "classification":
                self.probabilities.append(passed.outputs.double().softmax(1).cpu())
            yield passed

    def of_each(self) -> Iterator[metrics.Predicted]:
        """Yield what each network predicted."""
        targets = torch.cat(self.targets).numpy()
        chosen = torch.cat(self.chosen, 1)  # [M, n]
        for i, of_network in enumerate(chosen):
            probabilities = None
            if self.probabilities:
                own = torch.cat([p[i] for p in self.probabilities], 1)  # [K, n]
                probabilities = own.t().numpy()
            yield metrics.Predicted(targets, of_network.numpy(), probabilities)


def _regression_scores(outs: Outputs, schema: Schema) -> list[Score]:
    n = 0
    loss = torch.zeros(())
    unexplained = torch.zeros(())  # squared errors in the target's own units, where they differ
    moments = torch.zeros(2, dtype=torch.float64)  # of the targets: sum, sum of squares
    typical, _ = schema.scale
    unit = math.exp(typical) if schema.log_target else 1.0  # so that squares stay small
    for out, y, _ in outs:
        n += len(y)
        target = standardised(y, schema).to(out.dtype)  # [n]
        squared_errors = (out[:, 0] - target).square()  # [M, n]
        loss = loss + squared_errors.sum(1).double()
        exact = target.double()
        if schema.log_target:
            # R² is of the target itself, whatever is learnt.
            exact = y.double() / unit
            errors = in_units(out[:, 0].double(), schema) / unit - exact
            unexplained = unexplained + errors.square().sum(1)
        squares = exact.square()
        sums = torch.stack((exact.sum(), squares.sum()))
        moments += sums.cpu()
    if not schema.log_target:
        unexplained = loss
    first, second = (moments / n).tolist()
    variance = second - first * first
    scores = []
    for of_network, lost in zip((loss / n).tolist(), (unexplained / n).tolist(), strict=True):
        # Of a constant target, or a single one, no share of the variance can be explained.
        r2 = math.nan
        if variance > 1e-12:
            r2 = 1 - lost / variance
        scores.append(Score(of_network, r2, n))
    return scores


def _classification_scores(outs: Outputs, schema: Schema, sizes: Sequence[int]) -> list[Score]:
    n = 0
    n_known = 0
    loss = torch.zeros(())
    right = torch.zeros(())
    predicted = []
    targets = []
    for passed in outs:
        out, y, chosen = passed
        n += len(y)
        log_p = torch.log_softmax(out, 1)  # [M, K, n]
        known = y >= 0
        has_unseen = not bool(known.all())
        classes = y.clamp_min(0).expand(len(out), 1, -1)  # [M, 1, n]
        of_class = log_p.gather(1, classes) * known
        n_known += int(known.sum())
        # Summed in float64: a part may have millions of tokens.
        loss = loss - of_class.sum((1, 2)).double()
        if chosen is None and not has_unseen:
            is_right = hits(out, y.unsqueeze(0))  # [M, n]
        else:
            is_right = passed.predicted() == y
        right = right + is_right.sum(1)
        if sizes:
            predicted.append(passed.predicted().cpu())
            targets.append(y.cpu())

    losses = (loss / (n_known or math.nan)).tolist()
    accuracies = [hits_of_network / n for hits_of_network in right.tolist()]
    entities: list[EntityCounts | None] = [None] * len(losses)
    if sizes:
        true = torch.cat(targets)
        for i, tags in enumerate(torch.cat(predicted, 1)):
            by_kind = ner_metrics.entity_counts(tags, true, sizes, schema)
            entities[i] = by_kind[ALL]
    scores = []
    for i, accuracy in enumerate(accuracies):
        scores.append(Score(losses[i], accuracy, n, entities[i]))
    return scores
