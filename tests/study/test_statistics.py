"""Intervals and claims against SciPy, brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from danlu.study.compare import ALPHA, rows
from danlu.study.statistics import estimate, holm, looks, p_value, spent, verdict

X = [0.91, 0.93, 0.92, 0.95, 0.90, 0.94]


def test_t_interval_and_p_equal_scipys() -> None:
    e = estimate(X)
    low, high = stats.ttest_1samp(X, 0).confidence_interval(0.95)
    assert (e.mean, e.low, e.high) == pytest.approx((np.mean(X), low, high))
    y = [0.90, 0.90, 0.93, 0.91, 0.91, 0.92]
    assert p_value(np.subtract(X, y)) == pytest.approx(stats.ttest_rel(X, y).pvalue)


def test_bootstrap_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        e = estimate(rng.exponential(1.0, 25), kind="bca")
        hits += e.low <= 1.0 <= e.high
    assert hits >= 50  # of 57 expected; 50 or fewer in 1 of 200 such tests


def test_few_and_equal_values() -> None:
    assert math.isnan(estimate([0.5]).low)
    assert math.isnan(estimate([]).mean)
    assert (estimate([0.5] * 3).low, estimate([0.5] * 3).high) == (0.5, 0.5)
    assert estimate([0.5] * 3, kind="bca").mean == 0.5
    assert p_value([0.0, 0.0, 0.0]) == 1
    assert p_value([0.1]) == 1
    assert p_value([0.1, 0.1]) == 0.5  # two equal gains prove little
    assert p_value([0.1] * 10) == pytest.approx(2**-9)


def brute_holm(p: list[float], alpha: float) -> list[bool]:
    """Holm's procedure step by step: reject while the k-th smallest is below α/(m − k)."""
    order, claims = sorted(range(len(p)), key=lambda i: p[i]), [False] * len(p)
    for k, i in enumerate(order):
        if p[i] * (len(p) - k) >= alpha:
            break
        claims[i] = True
    return claims


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_by_the_book(p: list[float]) -> None:
    assert [c < ALPHA for c in holm(p)] == brute_holm(p, ALPHA)


def test_words() -> None:
    assert verdict(0.01, 0.2, 0.05, True) == "better"
    assert verdict(0.01, 0.2, 0.05, False) == "worse"
    assert verdict(0.2, 0.2, 0.05, True) == "no difference shown"
    assert verdict(float("nan"), 0.2, 0.05, True) == "no difference shown"


@given(st.integers(2, 10_000))
def test_looks_end_at_the_most(most: int) -> None:
    found = looks(most)
    assert found[-1] == most
    assert all(a < b for a, b in itertools.pairwise(found))
    assert spent(0.05, most) * len(found) == pytest.approx(0.05)


def test_a_real_difference_is_found_and_signs_are_right() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(0.9, 0.02, 10)
    figures = [base, base + rng.normal(0.02, 0.004, 10), base - rng.normal(0.02, 0.004, 10), base + rng.normal(0, 0.004, 10)]
    for higher in (True, False):
        words = [r.verdict for r in rows("abcd", [f.tolist() for f in figures], 0, ALPHA, higher, "t")]
        assert words == ["control", *(("better", "worse") if higher else ("worse", "better")), "no difference shown"]


def test_diverged_trainings_are_counted_and_left_out() -> None:
    figures = [[0.9, 0.8, 0.9], [math.nan, 0.81, 0.92], [math.nan] * 3]
    found = rows("abc", figures, 0, ALPHA, True, "t")
    assert [r.diverged for r in found] == [0, 1, 3]
    assert found[1].difference.mean == pytest.approx(0.015)
    assert found[2].verdict == "no difference shown"


@pytest.mark.parametrize("most", [5, 40])
def test_looking_again_and_again_does_not_make_false_claims(most: int) -> None:
    """2,000 comparisons of three equal variants, stopped at the first claim: at most α of them make one."""
    rng, false = np.random.default_rng(most), 0
    level = spent(ALPHA, most)
    for _ in range(2000):
        figures = rng.normal(size=(3, most))
        for n in looks(most):
            p = holm([p_value(figures[k, :n] - figures[0, :n]) for k in (1, 2)])
            if min(p) < level:
                false += 1
                break
    assert false <= 2000 * ALPHA + 3 * math.sqrt(2000 * ALPHA * (1 - ALPHA))
