"""What networks score on a part of the data.

Legend: M networks, S batches (one for each normaliser), B examples of a pass, n targets, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from danlu import metrics
from danlu.data import Data, Normalizer, Schema
from danlu.data.target_scale import in_units, standardised
from danlu.data.text import trim_padding
from danlu.data.vocabulary import PAD
from danlu.nn.protocols import is_stateful
from danlu.predict import ner_metrics
from danlu.predict.ner_metrics import ALL, EntityCounts

_INPUT_BYTES = 1 << 20  # of a pass: what is made of it fits the caches
_LOGITS = 1 << 24  # outputs of a pass, where every token has some
_LANES = 8  # places at which reading of a part begins, where a state is carried on


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


# Takes x [S, B, …]; gives outputs [M, K, n], and what is chosen [M, n] or None.
Forward = Callable[[Tensor], tuple[Tensor, Tensor | None]]
Outputs = Iterator[PassOutputs]


def rows_per_pass(schema: Schema) -> int:
    """Return how many examples to push through at once."""
    values = max(1, math.prod(schema.input_shape))
    if schema.each_token:
        fitting = _LOGITS // (values * schema.outputs)
        return max(1, min(64, fitting))
    fitting = _INPUT_BYTES // (4 * values)
    return max(1, min(2048, fitting))


@torch.no_grad()
def outputs(model: nn.Module, batches: Iterator[Tensor], normalizer: Normalizer) -> Tensor:
    """Return logits (or predicted numbers) [N, K] in evaluation mode."""
    was_training = model.training
    model.eval()
    try:
        outs = [model(normalizer(x)) for x in batches]
        return torch.cat(outs)
    finally:
        model.train(was_training)


def forward_of(model: nn.Module) -> Forward:
    """Return a module as a forward pass x [1, B, …] → [1, K, B], tokens in a row.

    A stateful network's state goes on from pass to pass.
    """
    state: tuple[Tensor, ...] | None = None

    def forward(x: Tensor) -> tuple[Tensor, Tensor | None]:
        nonlocal state
        if is_stateful(model):
            size = x.shape[1]  # the last batch may be smaller than the one before
            start = None
            if state is not None:
                start = tuple(s[:size] for s in state)
            out, state = model(x[0], start)
        else:
            out = model(x[0])
        if not isinstance(out, tuple):
            return _as_columns(out), None
        marginals, path = out  # of a CRF
        chosen = path.argmax(-1).flatten()
        return _as_columns(marginals), chosen.unsqueeze(0)

    return forward


def _as_columns(out: Tensor) -> Tensor:
    """Return outputs [B, K] or [B, T, K] as [1, K, B·T]."""
    rows = out.flatten(0, -2)
    return rows.t().unsqueeze(0)


def in_lanes(n: int) -> Iterator[Tensor]:
    """Yield the numbers of n windows of running text, read at several places at once.

    Each window comes after the one before it.
    """
    lanes = min(_LANES, n)
    steps = math.ceil(n / lanes)
    starts = torch.arange(0, n, steps)
    for k in range(steps):
        windows = starts + k
        yield windows[windows < n]


def part_outputs(
    forward: Forward,
    data: Data,
    part: str,
    normalizers: Sequence[Normalizer],
    most: int | None = None,
    at_once: int | None = None,
    stateful: bool = False,
) -> Outputs:
    """Yield outputs and targets on a part of the data ("all": the whole).

    most: on an even sample of so many. forward: takes x [S, B, …], a batch for each normaliser.
    at_once: how large a B may be. stateful: windows of running text come in order, so that a state
    can go on from one to the next.
    """
    device = normalizers[0].scale.device
    index = in_order(data, part, most, stateful)
    examples = data.on_device(device)
    batches: Iterable[Tensor]
    if stateful:
        batches = (index[lane] for lane in in_lanes(len(index)))
    else:
        batches = index.split(at_once or rows_per_pass(data.schema))
    for rows in batches:
        x = examples.index_select(0, rows.to(examples.device))
        x = x.to(device)
        y = data.y[rows].to(device)
        if data.schema.is_text:
            # Sentences of a batch are about as long, so most padding goes.
            x, y = trim_padding(x, y, data.schema.source)
        with torch.no_grad():
            out, chosen = forward(_normalized(x, normalizers))
        if data.schema.each_token:
            yield _without_padding(out, y.flatten().long(), chosen)
        else:
            yield PassOutputs(out, y, chosen)


def _normalized(x: Tensor, normalizers: Sequence[Normalizer]) -> Tensor:
    """Return [S, B, …]."""
    normalized = [normalizer(x) for normalizer in normalizers]
    # A stack would copy the one that there usually is.
    if len(normalized) == 1:
        return normalized[0].unsqueeze(0)
    return torch.stack(normalized)


def _without_padding(out: Tensor, y: Tensor, chosen: Tensor | None) -> PassOutputs:
    """Return outputs and targets of the tokens that have a target."""
    has_target = y >= 0  # [B·T]
    if bool(has_target.all()):
        return PassOutputs(out, y, chosen)
    if chosen is not None:
        chosen = chosen[..., has_target]
    return PassOutputs(out[..., has_target], y[has_target], chosen)


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


def collect(outs: Outputs, n: int) -> tuple[Tensor, Tensor]:
    """Return outputs [n, K] of one network and targets [n] as two tensors on the CPU.

    Copied into place: small tensors kept one by one would lie between the freed activations, and
    memory would grow.
    """
    whole = torch.empty(0)
    targets = torch.empty(0)
    start = 0
    for out, y, _ in outs:
        if start == 0:
            whole = torch.empty(n, out.shape[1], dtype=out.dtype)
            targets = torch.empty(n, dtype=y.dtype)
        end = start + len(y)
        whole[start:end] = out[0].t()
        targets[start:end] = y
        start = end
    return whole, targets


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
    outs: Outputs, schema: Schema, is_own: Tensor, more: Sequence[str] = ()
) -> list[Score]:
    """Return what each of M networks scores on examples of its own; is_own [M, n].

    For examples with one target each.
    """
    passes = list(outs)
    outputs = torch.cat([passed.outputs.cpu() for passed in passes], 2)  # [M, K, n]
    targets = torch.cat([passed.targets.cpu() for passed in passes])
    found = []
    for of_network, own in zip(outputs, is_own, strict=True):
        only = PassOutputs(of_network[None, :, own], targets[own])
        found += scores(iter([only]), schema, more=more)
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
                self.probabilities.append(passed.outputs.softmax(1).cpu())
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

    losses = (loss / max(1, n_known)).tolist()
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


def sentence_lengths(data: Data, part: str, most: int | None = None) -> list[int]:
    """Return the tokens of each sentence of a part, where tags name entities; else nothing.

    most: of the sample that `part_outputs` takes.
    """
    if not data.schema.scheme:
        return []
    return ner_metrics.lengths(data, in_order(data, part, most))


def in_order(data: Data, part: str, most: int | None, stateful: bool = False) -> Tensor:
    """Return the examples of a part, or an even sample of `most`; sentences by their length.

    Of running text that a state is carried through, the sample is the beginning.
    """
    if part == "all":
        index = torch.arange(len(data))
    else:
        index = data.parts[part]
    if most and len(index) > most:
        if stateful:
            index = index[:most]
        else:
            even = torch.linspace(0, len(index) - 1, most).long()
            index = index[even]
    if data.schema.each_token and data.schema.task != "language":
        # Sentences of one length in a pass: little of it is padding.
        lengths = (data.x[index] != PAD).sum(1)  # [n]
        index = index[lengths.argsort(stable=True)]
    return index
