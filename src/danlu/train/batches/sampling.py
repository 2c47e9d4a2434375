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
    order = torch.randperm(n, generator=stream(sample.seed, "sample"))
    if sample.folds:
        order = order[torch.arange(n) % sample.folds != sample.fold]
    order = order[: max(1, round(sample.share * len(order)))]
    if sample.bootstrap:
        size = len(order)
        order = order[torch.randint(size, (size,), generator=stream(sample.seed, "bootstrap"))]
    return torch.bincount(order, minlength=n).float()
