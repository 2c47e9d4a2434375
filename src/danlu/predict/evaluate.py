"""What networks score on a part of the data.

Legend: M networks, S batches (one for each normaliser), B examples of a pass, n targets, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from danlu.data import Data, Normalizer, Schema
from danlu.data.text import trim_padding
from danlu.data.vocabulary import PAD
from danlu.nn.protocols import is_stateful
from danlu.predict import ner_metrics
from danlu.predict.scores import Outputs, PassOutputs

_INPUT_BYTES = 1 << 20  # of a pass: what is made of it fits the caches
_LOGITS = 1 << 24  # outputs of a pass, where every token has some
_LANES = 8  # places at which reading of a part begins, where a state is carried on


# Takes x [S, B, …]; gives outputs [M, K, n], and what is chosen [M, n] or None.
Forward = Callable[[Tensor], tuple[Tensor, Tensor | None]]


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


def sentence_lengths(data: Data, part: str, most: int | None = None) -> list[int]:
    """Return the tokens of each sentence of a part, where tags name entities; else nothing.

    most: of the sample that `part_outputs` takes.
    """
    if not data.schema.scheme:
        return []
    return ner_metrics.lengths(data, in_order(data, part, most))


def even_sample(index: Tensor, most: int | None) -> Tensor:
    """Return at most so many of the examples, spread evenly over them."""
    if not most or len(index) <= most:
        return index
    even = torch.linspace(0, len(index) - 1, most).long()
    return index[even]


def in_order(data: Data, part: str, most: int | None, stateful: bool = False) -> Tensor:
    """Return the examples of a part, or an even sample of `most`; sentences by their length.

    Of running text that a state is carried through, the sample is the beginning.
    """
    if part == "all":
        index = torch.arange(len(data))
    else:
        index = data.parts[part]
    index = index[:most] if stateful and most else even_sample(index, most)
    if data.schema.each_token and data.schema.task != "language":
        # Sentences of one length in a pass: little of it is padding.
        lengths = (data.x[index] != PAD).sum(1)  # [n]
        index = index[lengths.argsort(stable=True)]
    return index
