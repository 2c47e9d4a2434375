"""Which training examples a recipe uses, and how often.

Folds, shares and bootstraps are counts over shared batches, so no data are copied.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from danlu.data import Data
from danlu.recipe.example_sections import Sample
from danlu.rng import stream


def example_counts(sample: Sample, n: int, labels: Tensor | None = None) -> Tensor | None:
    """Return how often each of n training examples counts [n]; None when every one counts once.

    One permutation, drawn by `sample.seed`, serves all: fold k is every folds-th of it (of each
    class, where labels [n] are given), a share is its beginning (so smaller shares are parts of
    larger ones), a bootstrap draws from what these leave as many as there are.
    """
    if sample.whole:
        return None
    generator = stream(sample.seed, "sample")
    order = torch.randperm(n, generator=generator)
    if sample.folds:
        order = order[fold_numbers(order, sample.folds, labels) != sample.fold]
    size = max(1, round(sample.share * len(order)))
    order = order[:size]
    if sample.bootstrap:
        # With replacement, as many as there are.
        generator = stream(sample.seed, "bootstrap")
        drawn = torch.randint(size, (size,), generator=generator)
        order = order[drawn]
    return torch.bincount(order, minlength=n).float()


def resampled(sample: Sample, n: int) -> Tensor | None:
    """Return which of n training examples were drawn, with replacement [n]; None without."""
    if not sample.resample:
        return None
    drawn = torch.randint(n, (n,), generator=stream(sample.seed, "resample"))
    return drawn.sort().values


def examples_seen(sample: Sample, n: int) -> int:
    """Return how many of n training examples a network sees; of a bootstrap, that it draws from."""
    if sample.folds:
        n -= n // sample.folds
    return max(1, round(sample.share * n)) if n else 0


def times_drawn(sample: Sample, n: int, labels: Tensor | None = None) -> Tensor | None:
    """Return how often a network sees each of n training examples in an epoch [n].

    None where it sees each once.
    """
    drawn = resampled(sample, n)
    if drawn is not None:
        return torch.bincount(drawn, minlength=n)
    return example_counts(sample, n, labels)


def fold_numbers(order: Tensor, folds: int, labels: Tensor | None) -> Tensor:
    """Return the fold of each place in an order of examples.

    Folds are equal in size to within one, and with labels so are the classes in them.
    """
    place = torch.arange(len(order))
    if labels is not None:
        place = labels[order].argsort(stable=True)
    fold_of = torch.empty_like(place)
    fold_of[place] = torch.arange(len(order)) % folds
    return fold_of


def left_out(sample: Sample, n: int, labels: Tensor | None) -> Tensor:
    """Return whether each of n training examples is in the fold that a sample leaves out [n]."""
    order = torch.randperm(n, generator=stream(sample.seed, "sample"))
    is_left_out = torch.empty(n, dtype=torch.bool)
    is_left_out[order] = fold_numbers(order, sample.folds, labels) == sample.fold
    return is_left_out


def with_own_fold(data: Data, sample: Sample) -> Data:
    """Return data whose validation part is the fold that a sample leaves out."""
    train = data.parts["train"]
    own = left_out(sample, len(train), data.training_labels)
    return replace(data, parts={**data.parts, "valid": train[own]})
