"""Figures against scikit-learn's, also with ties, absent classes and unseen ones."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from danlu import metrics
from danlu.metrics import METRICS, Predicted

METRICS_OF_CLASSES = metrics.available("classification", 6, False)


@st.composite
def predictions(draw: st.DrawFn) -> Predicted:
    """Few examples and coarse probabilities, so that there are ties; some classes may be absent."""
    n, k = draw(st.integers(2, 40)), draw(st.integers(2, 7))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    raw = rng.integers(1, draw(st.sampled_from([3, 1000])), size=(n, k)).astype(float)
    p = raw / raw.sum(1, keepdims=True)
    targets = rng.integers(0, draw(st.integers(1, k)), size=n)
    return Predicted(targets, p.argmax(1), p)


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_figures_of_classes_equal_scikit_learn_s(p: Predicted) -> None:
    y, c, q = p.targets, p.chosen, p.probabilities
    k = q.shape[1]
    labels = np.arange(k)
    found = metrics.compute(metrics.computed(METRICS_OF_CLASSES), p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = {
            "balanced_accuracy": sk.balanced_accuracy_score(y, c),
            "macro_f1": sk.f1_score(y, c, average="macro", zero_division=0),
            "top5_accuracy": None,
            "brier": sk.brier_score_loss(y, q if k > 2 else q[:, 1], labels=labels),
        }
        table = sk.precision_recall_fscore_support(y, c, labels=labels, zero_division=0)
    for name, value in want.items():
        if value is not None:
            assert found[name] == pytest.approx(value, abs=1e-9), name
    for ours, theirs in zip(metrics.by_class(p), table, strict=True):
        np.testing.assert_allclose(ours, theirs)
    shown = [j for j in labels if 0 < (y == j).sum() < len(y) and (k > 2 or j == 1)]
    for name, score in (
        ("auc", sk.roc_auc_score),
        ("average_precision", sk.average_precision_score),
    ):
        if not shown:
            assert math.isnan(found[name])
            continue
        want_of = np.mean([score(y == j, q[:, j]) for j in shown])
        assert found[name] == pytest.approx(want_of, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_top_k_equals_scikit_learn_s_without_ties(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(6), size=50)
    y = rng.integers(0, 6, size=50)
    found = metrics.compute([f"top{k}_accuracy"], Predicted(y, p.argmax(1), p))
    want = sk.top_k_accuracy_score(y, p, k=k, labels=np.arange(6))
    assert found[f"top{k}_accuracy"] == pytest.approx(want)


def test_figures_of_numbers_equal_scikit_learn_s() -> None:
    rng = np.random.default_rng(0)
    y, c = rng.normal(size=33), rng.normal(size=33)
    found = metrics.compute(["mae", "rmse", "median_error"], Predicted(y, c))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, c))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(y, c))
    assert found["median_error"] == pytest.approx(sk.median_absolute_error(y, c))


def test_calibration_error_is_what_a_loop_says() -> None:
    """Guo et al. 2017, eq. 3, bin by bin."""
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(3), size=500)
    y = rng.integers(0, 3, size=500)
    predicted = Predicted(y, p.argmax(1), p)
    confidence, right, want = p.max(1), p.argmax(1) == y, 0.0
    for b in range(15):
        inside = (confidence >= b / 15) & (confidence < (b + 1) / 15)
        if inside.any():
            want += inside.sum() / 500 * abs(right[inside].mean() - confidence[inside].mean())
    found = metrics.compute(["calibration_error"], predicted)["calibration_error"]
    assert found == pytest.approx(want)
    sure = Predicted(np.zeros(4, int), np.zeros(4, int), np.array([[1.0, 0.0]] * 4))
    assert metrics.compute(["calibration_error"], sure)["calibration_error"] == 0


def test_examples_of_unseen_classes_are_errors() -> None:
    y = np.array([0, 0, 1, -1])
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    predicted = Predicted(y, p.argmax(1), p)
    precision, recall, _, support = metrics.by_class(predicted)
    assert precision.tolist() == [2 / 3, 1]  # what is taken for class 0 is not all of it
    assert recall.tolist() == [1, 1]
    assert support.tolist() == [2, 1]
    assert metrics.compute(["auc"], predicted)["auc"] == 1  # there is no truth to rank it by


@pytest.mark.parametrize(
    ("counts", "imbalanced"),
    [
        ([50, 50], False),
        ([79, 21], False),
        ([81, 19], True),
        ([59, 71, 48], False),
        ([100] * 9 + [20], False),  # one rare class of ten
        ([900] + [10] * 9, True),
        ([100, 0], False),  # a single class is no question
    ],
)
def test_imbalance_is_that_of_two_classes_at_80_and_20(counts: list[int], imbalanced: bool) -> None:
    assert metrics.is_imbalanced(counts) == imbalanced
    names = metrics.available("classification", len(counts), False)
    usual = "auc" if len(counts) == 2 else "macro_f1"
    assert metrics.default(names, counts) == (usual if imbalanced else "accuracy")


def test_names_of_other_libraries_are_understood() -> None:
    assert metrics.canonical("roc_auc") == "auc"
    assert metrics.canonical("valid_F1-macro") == "valid_macro_f1"
    assert metrics.higher_is_better("test_auc")
    assert not metrics.higher_is_better("valid_brier")
    assert metrics.title_of("valid_top3_accuracy") == "valid top-3 accuracy"
    assert metrics.is_available("top3_accuracy", "classification", 4, False)
    assert not metrics.is_available("top3_accuracy", "classification", 3, False)
    assert not metrics.is_available("auc", "regression", 0, False)
    assert all(metrics.canonical(name) == name for name in METRICS)
