"""Which training examples a recipe uses, and how often.

Folds, shares and bootstraps are counts over shared batches, so no data are copied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from danlu.recipe.sections import Sample
from danlu.rng import stream


def example_counts(sample: Sample, n: int) -> Tensor | None:
    """Return how often each of n training examples counts [n]; None when every one counts once.

    One permutation, drawn by `sample.seed`, serves all: fold k is every folds-th of it, a share is
    its beginning (so smaller shares are parts of larger ones), a bootstrap draws from what these
    leave as many as there are.
    """
    if sample.whole:
        return None
    generator = stream(sample.seed, "sample")
    order = torch.randperm(n, generator=generator)
    if sample.folds:
        # Of the shuffled examples, so folds are random, and equal in size to within one.
        fold_of = torch.arange(n) % sample.folds
        order = order[fold_of != sample.fold]
    size = max(1, round(sample.share * len(order)))
    order = order[:size]
    if sample.bootstrap:
        # With replacement, as many as there are.
        generator = stream(sample.seed, "bootstrap")
        drawn = torch.randint(size, (size,), generator=generator)
        order = order[drawn]
    return torch.bincount(order, minlength=n).float()
