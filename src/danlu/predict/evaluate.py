"""What a network scores on a part of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from danlu.data import Data, Normalizer, Schema
from danlu.data.sources.text import trim_padding
from danlu.data.vocabulary import PAD
from danlu.predict import ner_metrics

_BYTES = 1 << 20  # of input per pass: what is made of it fits the caches
_LOGITS = 1 << 24  # outputs per pass, where every token has some
_LANES = (
    8  # places at which reading of a part begins, where a state is carried from window to window
)


@dataclass(frozen=True)
class Score:
    """Mean loss (cross-entropy in nats, or squared error of the standardised target) and accuracy (or R²) on n examples.

    n: tokens, where each has a target. entities: how those are found that tags name.
    """

    loss: float
    accuracy: float
    n: int
    entities: ner_metrics.EntityCounts | None = None

    @property
    def f1(self) -> float | None:
        """Of whole entities, where tags name some."""
        return None if self.entities is None else self.entities.f1

    def told(self, part: str, metric: str) -> dict[str, float]:
        """The figures by name, such as test_loss."""
        found = {f"{part}_loss": self.loss, f"{part}_{metric}": self.accuracy}
        return found if self.f1 is None else {**found, f"{part}_f1": self.f1}


def rows_per_pass(schema: Schema) -> int:
    """Examples to push through at once."""
    each = max(1, math.prod(schema.input_shape))
    if schema.each_token:
        return max(1, min(64, _LOGITS // (each * schema.outputs)))
    return max(1, min(2048, _BYTES // (4 * each)))


Forward = Callable[
    [Tensor], Any
]  # gives outputs [M, K, n], or with them what is chosen [M, n] where that is not the largest
Outputs = Iterator[
    tuple[Tensor, ...]
]  # outputs [M, K, n] of M networks, targets [n], what is chosen where that differs


@torch.no_grad()
def outputs(model: nn.Module, batches: Iterator[Tensor], normalizer: Normalizer) -> Tensor:
    """Logits (or predicted numbers) [N, outputs] in evaluation mode."""
    was = model.training
    model.eval()
    try:
        return torch.cat([model(normalizer(x)) for x in batches])
    finally:
        model.train(was)


def alone(model: nn.Module) -> Forward:
    """A module as a forward pass x [1, B, …] → [1, K, B] (tokens in a row); what it carries goes on from pass to pass."""
    carried: list[tuple[Tensor, ...]] = []

    def forward(x: Tensor) -> Any:
        if getattr(model, "carries", False):
            out, states = model(
                x[0], tuple(s[: x.shape[1]] for s in carried[-1]) if carried else None
            )
            carried[:] = [states]
        else:
            out = model(x[0])
        if isinstance(out, tuple):  # of a CRF
            return out[0].flatten(0, -2).t().unsqueeze(0), out[1].argmax(-1).flatten().unsqueeze(0)
        return out.flatten(0, -2).t().unsqueeze(0)

    return forward


def in_lanes(n: int) -> Iterator[Tensor]:
    """The numbers of n windows of running text, read at several places at once, each window after the one before it."""
    steps = -(-n // min(_LANES, n))
    starts = torch.arange(0, n, steps)
    for k in range(steps):
        now = starts + k
        yield now[now < n]


def part_outputs(
    forward: Forward,
    data: Data,
    part: str,
    normalizers: Sequence[Normalizer],
    most: int | None = None,
    at_once: int | None = None,
    carries: bool = False,
) -> Outputs:
    """Outputs and targets on a part of the data ("all": the whole), or on an even sample of `most` of it.

    forward: takes x [S, B, …], one for each normaliser; at_once: how large a B may be. carries: windows of running text
    come in order, so that a state can go on from one to the next.
    """
    device = normalizers[0].scale.device
    index = in_order(data, part, most, carries)
    there = data.placed(device)
    batches = (
        (index[k] for k in in_lanes(len(index)))
        if carries
        else index.split(at_once or rows_per_pass(data.schema))
    )
    for rows in batches:
        x, y = there.index_select(0, rows.to(there.device)).to(device), data.y[rows].to(device)
        if data.schema.is_text:
            x, y = trim_padding(x, y, data.schema.source)
        with torch.no_grad():
            out = forward(
                torch.stack([n(x) for n in normalizers])
                if len(normalizers) > 1
                else normalizers[0](x).unsqueeze(0)
            )
        out, chosen = out if isinstance(out, tuple) else (out, None)
        if data.schema.each_token:
            y = y.flatten().long()
            known = y >= 0
            if not bool(known.all()):
                out, y = out[..., known], y[known]
                chosen = chosen if chosen is None else chosen[..., known]
        yield (out, y) if chosen is None else (out, y, chosen)


def hits(out: Tensor, y: Tensor) -> Tensor:
    """Where the first of the largest outputs is the right class; out [M, K, B], y [M or 1, B] → [M, B]."""
    rows = y.unsqueeze(1).expand(len(out), 1, out.shape[2])
    top = out.amax(1, keepdim=True)
    if (
        int(torch.count_nonzero(out == top)) == top.numel()
    ):  # many times the speed of a sum of truths
        return (out.gather(1, rows) == top).squeeze(1)
    return out.argmax(1) == rows.squeeze(1)  # equals, or NaN: the slow way


def collect(outs: Outputs, n: int) -> tuple[Tensor, Tensor]:
    """Outputs [n, K] of one network and targets [n] as two tensors on the CPU.

    Copied into place: small tensors kept one by one would lie between the freed activations, and memory would grow.
    """
    whole, targets, at = torch.empty(0), torch.empty(0), 0
    for out, y, *_ in outs:
        if not at:
            whole, targets = (
                torch.empty(n, out.shape[1], dtype=out.dtype),
                torch.empty(n, dtype=y.dtype),
            )
        whole[at : at + len(y)], targets[at : at + len(y)] = out[0].t(), y
        at += len(y)
    return whole, targets


def scores(outs: Outputs, schema: Schema, sizes: Sequence[int] = ()) -> list[Score]:
    """Loss and accuracy of each of M networks. sizes: tokens of each sentence, where tags name entities."""
    guesses, targets = [], []
    loss, right, n = torch.zeros(()), torch.zeros(()), 0
    moments = torch.zeros(2, dtype=torch.float64)  # of the targets: sum, sum of squares
    for out, y, *chosen in outs:
        n += len(y)
        if schema.is_regression:
            mean, spread = schema.scale
            target = ((y - mean) / spread).to(out.dtype)
            loss = loss + (out[:, 0] - target).square().sum(1).double()
            moments += torch.stack((target.double().sum(), target.double().square().sum())).cpu()
        else:
            rows = y.expand(len(out), 1, -1)
            loss = loss - torch.log_softmax(out, 1).gather(1, rows).sum((1, 2)).double()
            right = right + ((chosen[0] == y) if chosen else hits(out, y.unsqueeze(0))).sum(1)
            if sizes:
                guesses.append((chosen[0] if chosen else out.argmax(1)).cpu())
                targets.append(y.cpu())
    losses = (loss / n).tolist()
    if schema.is_regression:
        variance = float(moments[1] / n - (moments[0] / n) ** 2)
        return [Score(v, 1 - v / variance if variance > 1e-12 else 0.0, n) for v in losses]
    named: list[ner_metrics.EntityCounts | None] = [None] * len(losses)
    if sizes:
        true = torch.cat(targets)
        named = [
            ner_metrics.found(own, true, sizes, schema)["all"] for own in torch.cat(guesses, 1)
        ]
    return [Score(v, k / n, n, f) for v, k, f in zip(losses, right.tolist(), named, strict=True)]


def sentences(data: Data, part: str, most: int | None = None) -> list[int]:
    """Tokens of each sentence of a part (of the sample that `part_outputs` takes), where tags name entities; else none."""
    return ner_metrics.lengths(data, in_order(data, part, most)) if data.schema.scheme else []


def in_order(data: Data, part: str, most: int | None, carries: bool = False) -> Tensor:
    """The examples of a part, or an even sample of `most` (of running text the beginning); sentences by their length."""
    index = data.parts[part] if part != "all" else torch.arange(len(data))
    if most and len(index) > most:
        index = index[:most] if carries else index[torch.linspace(0, len(index) - 1, most).long()]
    if data.schema.each_token and data.schema.task != "language":
        index = index[(data.x[index] != PAD).sum(1).argsort(stable=True)]
    return index
