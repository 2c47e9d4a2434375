"""Whether two parts follow one distribution: planted differences are told, fair splits are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from faults.spoiling import say
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import roc_auc_score

from danlu import Data, Recipe, fit, load
from danlu.diagnosis import diagnose
from danlu.diagnosis.data_evidence import DataEvidence
from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.rules.outcome import train_test_shift
from danlu.diagnosis.shift import _as_ranks, _auc, _cross_fitted, shift
from danlu.diagnosis.signs import Signs


def halves(train: np.ndarray, test: np.ndarray) -> Data:
    x = np.concatenate([train, test]).astype(np.float32)
    data = load((x, np.arange(len(x)) % 2), valid=False)
    n = len(train)
    rows = torch.arange(len(x))
    return replace(data, parts={"train": rows[:n], "valid": rows[:0], "test": rows[n:]})


def test_equal_distributions_are_seldom_told_apart() -> None:
    """The interval holds 0.5 in about 19 of 20; that it lies above 0.6 never happens."""
    rng = np.random.default_rng(0)
    lows, highs = [], []
    for n in [40, 150, 400] * 30:
        x = rng.standard_t(3, size=(2 * n, 5)) @ rng.normal(size=(5, 5))
        found = shift(halves(x[:n], x[n:]))
        assert found is not None
        lows.append(found.low)
        highs.append(found.high)
        assert found.low < 0.6
    assert np.mean(np.array(lows) > 0.5) <= 0.05
    assert np.mean(np.array(highs) < 0.5) <= 0.05


@pytest.mark.parametrize("kind", ["mean", "spread", "relation"])
def test_planted_differences_are_told(kind: str) -> None:
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(400, 4)), rng.normal(size=(400, 4))
    if kind == "mean":
        test[:, 2] += 1
    elif kind == "spread":
        test[:, 2] *= 3
    else:
        # Each column is as it was; what they have to do with each other is not.
        train[:, 2] = train[:, 1] + 0.3 * train[:, 2]
        test[:, 2] = -test[:, 1] + 0.3 * test[:, 2]
    found = shift(halves(train, test))
    assert found is not None
    assert found.low > 0.6
    assert found.features == (("x2",) if kind == "mean" else ())


def test_the_classifier_is_kernel_ridge_regression_on_the_other_folds() -> None:
    rng = np.random.default_rng(2)
    x = _as_ranks(rng.normal(size=(100, 3)))
    is_second = np.repeat([False, True], 50)
    x[50:, 0] += 0.5
    scores = _cross_fitted(x, is_second)
    apart = ((x[:, None] - x) ** 2).sum(2)
    kernel = x @ x.T / (x**2).sum(1).mean() + np.exp(-apart / np.median(apart))
    fold_of = np.tile(np.random.default_rng(0).permutation(50) % 5, 2)
    sides = np.where(is_second, 1.0, -1.0)
    for fold in range(5):
        own, rest = fold_of == fold, fold_of != fold
        model = KernelRidge(alpha=0.02 * rest.sum(), kernel="precomputed")
        model.fit(kernel[np.ix_(rest, rest)], sides[rest])
        assert scores[own] == pytest.approx(model.predict(kernel[np.ix_(own, rest)]), abs=1e-9)
    auc, low, high = _auc(is_second, scores)
    assert auc == pytest.approx(roc_auc_score(is_second, scores))
    assert low < auc < high


def test_darker_pictures_are_named(tmp_path: Path) -> None:
    data = load("digits")
    x = data.x.clone()
    test = data.parts["test"]
    x[test] = (x[test].float() * 0.5).to(x.dtype)
    found = shift(replace(data, x=x))
    assert found is not None
    assert found.low > 0.9
    assert {"brightness", "contrast"} <= set(found.features)


def test_texts_of_other_words_are_told() -> None:
    data = load("names")
    assert data.size("test") > 100
    fair = shift(data)
    assert fair is not None
    assert fair.low < 0.6
    x = data.x.clone()
    common = int(torch.bincount(x[x > 3].flatten()).argmax())
    test = x[data.parts["test"]]
    test[test == common] = common + 1
    x[data.parts["test"]] = test
    found = shift(replace(data, x=x))
    assert found is not None
    assert found.low > 0.6


def _table(path: Path, ages: np.ndarray, rng: np.random.Generator) -> None:
    income = rng.normal(30, 5, len(ages))
    label = np.where(income + ages / 10 + rng.normal(0, 1, len(ages)) > 34, "yes", "no")
    rows = [f"{a:.1f},{i:.2f},{y}" for a, i, y in zip(ages, income, label, strict=True)]
    path.write_text("age,income,label\n" + "\n".join(rows))


@pytest.mark.parametrize("is_shifted", [False, True])
def test_files_of_other_people_are_told_before_and_after_training(
    tmp_path: Path, is_shifted: bool
) -> None:
    rng = np.random.default_rng(3)
    folder = tmp_path / "d"
    folder.mkdir()
    _table(folder / "train.csv", rng.normal(40, 8, 600), rng)
    _table(folder / "test.csv", rng.normal(55 if is_shifted else 40, 8, 200), rng)
    said = say("check", str(folder)).out
    assert ("train_test_shift" in said or "distribution" in said) == is_shifted
    run = fit(Recipe(epochs=20), load(str(folder)), out=tmp_path / "run")
    found = {finding.cause: finding for finding in diagnose(run).findings}
    assert ("train_test_shift" in found) == is_shifted
    if is_shifted:
        why = found["train_test_shift"].why()
        assert "What differs most: age" in why


def test_where_targets_differ_it_is_said_that_inputs_do_not(tmp_path: Path) -> None:
    data = load("digits")
    y = data.y.clone()
    test = data.parts["test"]
    # Half of the labels are one class further: no renaming mends that.
    half = test[::2]
    y[half] = (y[half] + 1) % 10
    spoilt = replace(data, y=y, reloadable=False)
    run = fit(Recipe(epochs=15), spoilt, out=tmp_path / "run")
    found = {finding.cause: finding for finding in run.diagnose(spoilt).findings}
    assert "inputs look alike" in found["train_test_shift"].why()


def test_what_is_not_shown_to_be_alike_is_not_called_so() -> None:
    """A test part that is harder, of inputs that differ a little."""
    rng = np.random.default_rng(5)
    data = halves(rng.normal(size=(500, 3)), rng.normal(0.2, 1, size=(500, 3)))
    found = shift(data)
    assert found is not None
    assert found.high > 0.6 > found.low
    result = {"valid_accuracy": 0.95, "test_accuracy": 0.6, "valid_n": 500, "test_n": 500}
    evidence = Evidence(result=result, schema=data.schema, data=DataEvidence(data))
    finding = train_test_shift(evidence, Signs(evidence))
    assert finding is not None
    assert "look alike" not in finding.why()
    assert "reaches 0.95" in finding.why()
