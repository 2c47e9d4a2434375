"""Which training examples a recipe uses, and how often."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from danlu.recipe.example_sections import Sample
from danlu.recipe.sample import example_counts

SEEDS = st.integers(0, 10)


def counts_of(n: int, **fields: float) -> torch.Tensor:
    counts = example_counts(Sample(**fields), n)
    assert counts is not None and counts.shape == (n,)
    return counts


def test_without_a_sample_every_example_counts_once() -> None:
    assert example_counts(Sample(seed=3), 10) is None


@given(st.integers(2, 60), st.integers(2, 12), SEEDS)
def test_each_example_is_left_out_by_exactly_one_fold(n: int, folds: int, seed: int) -> None:
    folds = min(folds, n)
    left_out = torch.stack(
        [1 - counts_of(n, folds=folds, fold=k, seed=seed) for k in range(folds)]
    )  # [folds, n]
    assert (left_out.sum(0) == 1).all()
    sizes = left_out.sum(1)
    assert sizes.max() - sizes.min() <= 1


@given(st.integers(1, 60), st.floats(0.01, 0.99), st.floats(0.01, 0.99), SEEDS)
def test_a_smaller_share_is_part_of_a_larger_one(n: int, a: float, b: float, seed: int) -> None:
    small, large = (counts_of(n, share=share, seed=seed) for share in sorted((a, b)))
    assert int(small.sum()) == max(1, round(min(a, b) * n))
    assert int(large.sum()) == max(1, round(max(a, b) * n))
    assert set(large.tolist()) <= {0.0, 1.0}
    assert (small <= large).all()


@given(st.integers(1, 60), st.floats(0.1, 0.9), SEEDS)
def test_a_bootstrap_draws_as_many_from_its_share(n: int, share: float, seed: int) -> None:
    of_share = counts_of(n, share=share, seed=seed)
    drawn = counts_of(n, share=share, bootstrap=True, seed=seed)
    assert drawn.sum() == of_share.sum()
    assert (drawn[of_share == 0] == 0).all()


def test_a_bootstrap_leaves_out_about_a_share_of_1_over_e() -> None:
    drawn = counts_of(100_000, bootstrap=True)
    assert abs(float((drawn == 0).float().mean()) - 0.3679) < 0.005
    assert not torch.equal(drawn, counts_of(100_000, bootstrap=True, seed=1))
