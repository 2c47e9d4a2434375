"""What a network scores on a part of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from danlu.data import Data, Normalizer, Schema
from danlu.nn.losses import cross_entropy, squared_error

_BYTES = 1 << 20  # of input per pass: what is made of it fits the caches


@dataclass(frozen=True)
class Score:
    """Mean loss (cross-entropy in nats, or squared error of the standardised target) and accuracy (or R²) on n examples."""

    loss: float
    accuracy: float
    n: int


def rows_per_pass(shape: tuple[int, ...]) -> int:
    """Examples to push through at once."""
    return max(1, min(2048, _BYTES // (4 * max(1, int(torch.Size(shape).numel())))))


Forward = Callable[[Tensor], Tensor]


@torch.no_grad()
def outputs(model: nn.Module, batches: Iterator[Tensor], normalizer: Normalizer, forward: Forward | None = None) -> Tensor:
    """Logits (or predicted numbers) [N, outputs] in evaluation mode; `forward` is a faster equal of the model's own."""
    was = model.training
    model.eval()
    try:
        return torch.cat([(forward or model)(normalizer(x)) for x in batches])
    finally:
        model.train(was)


def score(out: Tensor, y: Tensor, schema: Schema) -> Score:
    """Loss and accuracy of outputs [N, K] for targets [N]."""
    if schema.task == "regression":
        mean, spread = schema.scale
        target = ((y - mean) / spread).to(out.dtype)
        loss = float(squared_error(out, target))
        variance = float(target.var(correction=0))
        return Score(loss, 1 - loss / variance if variance > 0 else 0.0, len(y))
    return Score(float(cross_entropy(out, y)), float((out.argmax(1) == y).sum()) / len(y), len(y))


def part_outputs(
    model: nn.Module, data: Data, part: str, normalizer: Normalizer, forward: Forward | None = None, most: int | None = None
) -> tuple[Tensor, Tensor]:
    """(outputs, targets) on a part of the data ("all": the whole), or on an even sample of `most` of it."""
    device = normalizer.scale.device
    index = data.parts[part] if part != "all" else torch.arange(len(data))
    if most and len(index) > most:
        index = index[torch.linspace(0, len(index) - 1, most).long()]
    rows = index.split(rows_per_pass(data.schema.input_shape))
    return outputs(model, (data.x.index_select(0, i).to(device) for i in rows), normalizer, forward).cpu(), data.y[index]
