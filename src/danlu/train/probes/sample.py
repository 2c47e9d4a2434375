"""The training examples that probes look at: the same from the first step to the last.

Legend: M networks, S samples (networks that train on the same examples share one), P examples,
T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from danlu.data import Data
from danlu.data.target_scale import standardised
from danlu.data.text import trim_padding
from danlu.data.vocabulary import PAD
from danlu.recipe import Recipe
from danlu.recipe.sample import times_drawn
from danlu.rng import stream
from danlu.train.batches import BatchStream
from danlu.train.batches.batch_stream import Segments, runs_of_equal

# Of each half: both take about as long as a step.
_MOST_EXAMPLES = 64
_LEAST_EXAMPLES = 16


class ProbeSample(NamedTuple):
    """Examples in two halves: x [S, P, …], y [S, P] or [S, P, T].

    segments: which networks see which of the S samples. lengths [S, P]: tokens of each text, None
    for other examples.
    """

    x: Tensor
    y: Tensor
    segments: Segments
    lengths: Tensor | None

    @property
    def half_size(self) -> int:
        """Examples of a half."""
        return self.x.size(1) // 2

    def half(self, k: int) -> ProbeSample:
        """Return the first half (0) or the second (1)."""
        size = self.half_size
        return self.some(slice(k * size, (k + 1) * size))

    def some(self, examples: slice) -> ProbeSample:
        """Return some of the examples."""
        lengths = None if self.lengths is None else self.lengths[:, examples]
        return ProbeSample(self.x[:, examples], self.y[:, examples], self.segments, lengths)


def examples_in_half(batch_size: int) -> int:
    """Return how many examples a half has, where batches have so many."""
    return max(_LEAST_EXAMPLES, min(_MOST_EXAMPLES, batch_size // 2))


def probe_sample(recipes: Sequence[Recipe], data: Data, batches: BatchStream) -> ProbeSample:
    """Return the sample of networks, each of examples that it trains on.

    It is normalised, and not augmented. Where there are too few examples they come again.
    """
    size = 2 * examples_in_half(recipes[0].batch_size)
    n = data.size("train")
    order = torch.randperm(n, generator=stream(0, "probe"))
    keys = [(recipe.normalize, repr(recipe.sample)) for recipe in recipes]
    segments = runs_of_equal(keys)
    x, y = _examples(order, size, data)
    width = x.shape[1]
    xs, ys, lengths = [], [], []
    for a, _ in segments:
        counts = times_drawn(recipes[a].sample, n, data.training_labels)
        if counts is not None:
            x, y = _examples(order[counts[order] > 0], size, data, width)
        normalizer = batches.normalizers[recipes[a].normalize]
        device = normalizer.scale.device
        lengths.append((x != PAD).flatten(1).sum(1).to(device))
        xs.append(normalizer(x.to(device)))
        ys.append(_targets(y, data, normalizer.scale.dtype).to(device))
    has_lengths = data.schema.is_text
    return ProbeSample(
        torch.stack(xs), torch.stack(ys), segments, torch.stack(lengths) if has_lengths else None
    )


def _examples(
    order: Tensor, size: int, data: Data, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the first examples of an order; texts without padding, or cut to a width."""
    places = order[torch.arange(size) % len(order)]
    rows = data.parts["train"][places]
    x = data.x.index_select(0, rows)
    y = data.y[rows]
    if not data.schema.is_text:
        return x, y
    if width is None:
        return trim_padding(x, y, data.schema.source)
    # As wide as the sample of whoever trains on everything, whatever company a network has.
    if y.ndim == x.ndim:
        y = y[:, : width - data.schema.source]
    return x[:, :width], y


def _targets(y: Tensor, data: Data, dtype: torch.dtype) -> Tensor:
    if data.schema.is_regression:
        return standardised(y, data.schema).to(dtype)
    return y.long()
