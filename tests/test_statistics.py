"""Intervals and claims against SciPy, brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from danlu.statistics import (
    difference_interval,
    estimate,
    holm,
    jackknife_half_width,
    level_of_a_look,
    looks,
    p_value,
    verdict,
    wilson_interval,
)
from danlu.study.comparison import ALPHA, variant_results

X = [0.91, 0.93, 0.92, 0.95, 0.90, 0.94]


def test_t_interval_and_p_equal_scipy_s() -> None:
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


def test_few_or_equal_values_give_no_false_interval() -> None:
    assert math.isnan(estimate([0.5]).low)
    assert math.isnan(estimate([]).mean)
    for kind in ("t", "bca"):
        equal = estimate([0.5] * 3, kind=kind)
        assert equal.mean == 0.5
        assert math.isnan(equal.low), "equal values do not tell how far they would spread"
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


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_equals_its_definition(p: list[float]) -> None:
    assert [c < ALPHA for c in holm(p)] == brute_holm(p, ALPHA)


def test_verdicts_follow_from_difference_p_and_level() -> None:
    assert verdict(0.01, 0.2, 0.05, True) == "better"
    assert verdict(0.01, 0.2, 0.05, False) == "worse"
    assert verdict(0.2, 0.2, 0.05, True) == "no difference shown"
    assert verdict(float("nan"), 0.2, 0.05, True) == "no difference shown"


@given(st.integers(2, 10_000))
def test_looks_end_at_the_maximum_and_share_the_level(most: int) -> None:
    found = looks(most)
    assert found[-1] == most
    assert all(a < b for a, b in itertools.pairwise(found))
    assert level_of_a_look(0.05, most) * len(found) == pytest.approx(0.05)


def test_a_real_difference_is_found_and_signs_are_right() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(0.9, 0.02, 10)
    figures = [
        base,
        base + rng.normal(0.02, 0.004, 10),
        base - rng.normal(0.02, 0.004, 10),
        base + rng.normal(0, 0.004, 10),
    ]
    for higher in (True, False):
        words = [
            r.verdict
            for r in variant_results("abcd", [f.tolist() for f in figures], 0, ALPHA, higher, "t")
        ]
        assert words == [
            "control",
            *(("better", "worse") if higher else ("worse", "better")),
            "no difference shown",
        ]


def test_diverged_trainings_are_counted_and_left_out() -> None:
    rng = np.random.default_rng(0)
    control = rng.normal(0.8, 0.001, 10)
    survivors = (control + 0.1 + rng.normal(0, 0.001, 10)).tolist()
    figures = [control.tolist(), [math.nan, *survivors[1:]], [math.nan] * 10, survivors]
    found = variant_results("abcd", figures, 0, ALPHA, True, "t")
    assert [r.diverged for r in found] == [0, 1, 10, 0]
    assert found[1].difference.mean == pytest.approx(0.1, abs=0.005)
    assert [r.verdict for r in found] == ["control", "diverged", "diverged", "better"], (
        "a selection proves nothing"
    )
    turned = variant_results("abcd", figures, 1, ALPHA, True, "t")
    assert [r.verdict for r in turned] == [
        "control diverged",
        "control",
        "diverged",
        "control diverged",
    ]


def test_intervals_of_differences_have_the_level_of_the_claims() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 12)).tolist()
    narrow, wide = (
        variant_results("ab", [a, b], 0, level, True, "t")[1].difference for level in (0.05, 0.01)
    )
    low, high = stats.ttest_rel(b, a).confidence_interval(0.99)
    assert (wide.low, wide.high) == pytest.approx((low, high))
    assert narrow.low > wide.low


@pytest.mark.parametrize("most", [10, 40])
def test_accuracies_on_few_examples_do_not_make_false_claims(most: int) -> None:
    """30 examples of which one or two go over to the other variant: differences take five values."""
    rng, false = np.random.default_rng(most), 0
    level = level_of_a_look(ALPHA, most)
    for _ in range(3000):
        gaps = rng.choice([-2, -1, 1, 2], size=most) / 30
        false += any(p_value(gaps[:n]) < level for n in looks(most))
    assert false <= 3000 * ALPHA + 3 * math.sqrt(3000 * ALPHA * (1 - ALPHA))


@pytest.mark.parametrize("most", [5, 40])
def test_looking_again_and_again_does_not_make_false_claims(most: int) -> None:
    """2,000 comparisons of three equal variants, stopped at the first claim: at most α of them make one."""
    rng, false = np.random.default_rng(most), 0
    level = level_of_a_look(ALPHA, most)
    for _ in range(2000):
        figures = rng.normal(size=(3, most))
        for n in looks(most):
            p = holm([p_value(figures[k, :n] - figures[0, :n]) for k in (1, 2)])
            if min(p) < level:
                false += 1
                break
    assert false <= 2000 * ALPHA + 3 * math.sqrt(2000 * ALPHA * (1 - ALPHA))


def test_proportion_intervals_equal_published_values() -> None:
    """Newcombe 1998: 81/263 by Wilson; 56/70 − 48/80 by his method 10."""
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert difference_interval(56 / 70, 70, 48 / 80, 80) == pytest.approx(
        (0.0524, 0.3339), abs=5e-5
    )


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    x = np.random.default_rng(0).normal(size=9)
    without = [float(np.delete(x, k).mean()) for k in range(9)]
    found = estimate(x.tolist())
    assert jackknife_half_width(without) == pytest.approx(found.high - found.mean)
