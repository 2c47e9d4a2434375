"""The error by the number of examples: known laws are found, and the gain of doubling with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from danlu import Recipe, compare, load
from danlu.report.pages.compare_page import write_comparison
from danlu.study.learning_curve import fitted, learning_curve

SIZES = [100, 200, 400, 800]


@pytest.mark.parametrize(("a", "b", "c"), [(0.02, 3.0, 0.7), (0.1, 1.0, 0.35), (0.0, 5.0, 1.0)])
def test_a_planted_law_is_found(a: float, b: float, c: float) -> None:
    n = np.array(SIZES, dtype=float)
    law = fitted(n, a + b * n**-c)
    assert law(n) == pytest.approx(a + b * n**-c, rel=0.01)
    assert law(1600) == pytest.approx(a + b * 1600**-c, rel=0.03)


def test_a_flat_curve_gains_nothing() -> None:
    found = learning_curve(SIZES, [[0.1, 0.1, 0.1]] * 4)
    assert found.gain == pytest.approx(0, abs=1e-6)


def test_the_interval_holds_the_gain_of_the_law_mostly() -> None:
    rng = np.random.default_rng(0)
    truth = 2 * 800**-0.5 - 2 * 1600**-0.5
    hits = 0
    for _ in range(40):
        errors = [(2 * n**-0.5 + rng.normal(0, 0.003, 8)).tolist() for n in SIZES]
        found = learning_curve(SIZES, errors)
        hits += found.low <= truth <= found.high
    assert hits >= 32  # of few seeds it is somewhat narrow


def test_a_comparison_of_shares_says_whether_more_data_are_worth_it(tmp_path: Path) -> None:
    found = compare(
        load("digits"),
        {"sample.share": [0.1, 0.25, 0.5, 1.0]},
        recipe=Recipe(epochs=15),
        seeds=3,
        out=tmp_path / "c",
    )
    curve = found.learning_curve
    assert curve is not None
    assert list(curve.sizes) == [108, 270, 540, 1079]
    means = [np.mean(of_size) for of_size in curve.errors]
    assert means == sorted(means, reverse=True)
    assert 0 <= curve.gain < 0.05
    said = " ".join(found.sentences())
    assert "twice as many examples" in said
    assert found.to_json()["learning_curve"]["gain"] == curve.gain
    assert "Learning curve" in write_comparison(found).read_text()


def test_other_comparisons_have_none(tmp_path: Path) -> None:
    found = compare(
        load("iris"), {"optimizer.lr": [0.01, 0.02, 0.04]}, recipe=Recipe(epochs=1, batch_size=16), seeds=2, out=tmp_path / "c"
    )  # fmt: skip
    assert found.learning_curve is None
    assert found.to_json()["learning_curve"] is None


def test_each_replicate_draws_its_own_examples(tmp_path: Path) -> None:
    found = compare(
        load("iris"), {"sample.share": [0.4, 1.0]}, recipe=Recipe(epochs=1, batch_size=16), seeds=3,
        out=tmp_path / "c",
    )  # fmt: skip
    assert [r.sample.seed for r in found.study.recipes] == [0, 0, 1, 1, 2, 2]
    other = compare(
        load("iris"), {"optimizer.lr": [0.1, 0.01]}, recipe=Recipe(epochs=1, batch_size=16),
        seeds=2, out=tmp_path / "d",
    )  # fmt: skip
    assert {r.sample.seed for r in other.study.recipes} == {0}
