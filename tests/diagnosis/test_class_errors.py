"""Errors by class and over-confidence, against scikit-learn and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import recall_score

from danlu import Recipe, fit, load
from danlu.diagnosis.class_errors import class_errors
from danlu.diagnosis.evidence import Evidence
from danlu.metrics import Predicted
from danlu.statistics import wilson_interval

DIGITS = load("digits")


def evidence(sharpness: float, worst: int | None = None) -> Evidence:
    """Return predictions that are as sure as `sharpness` makes them; class `worst` is often missed."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 10, 3000)
    logits = rng.normal(size=(3000, 10)) + 2.5 * np.eye(10)[targets]
    if worst is not None:
        logits[targets == worst] = rng.normal(size=((targets == worst).sum(), 10))
    p = np.exp(sharpness * logits)
    p /= p.sum(1, keepdims=True)
    return Evidence(schema=DIGITS.schema, predicted=Predicted(targets, p.argmax(1), p))


def test_recalls_are_those_of_scikit_learn() -> None:
    e = evidence(1.0)
    found = class_errors(e)
    assert found is not None and e.predicted is not None
    recalls = recall_score(e.predicted.targets, e.predicted.chosen, average=None)
    assert {c.name: c.recall for c in found.classes} == pytest.approx(
        {str(k): r for k, r in enumerate(recalls)}
    )
    first = found.classes[0]
    assert first.recall == min(recalls)
    assert (first.low, first.high) == wilson_interval(first.recall, first.examples)


@pytest.mark.parametrize(("sharpness", "word"), [(4.0, "over-confident"), (0.5, "less sure")])
def test_how_sure_it_is_is_held_against_how_right(sharpness: float, word: str) -> None:
    found = class_errors(evidence(sharpness))
    assert found is not None
    assert found.overconfidence == pytest.approx(found.confidence - found.accuracy)
    assert word in " ".join(found.sentences())
    assert "%" in "".join(found.sentences("zh"))


def test_a_class_that_is_missed_is_named_and_no_other() -> None:
    found = class_errors(evidence(2.5, worst=7))
    assert found is not None
    said = " ".join(found.sentences())
    assert "less often than the other classes, on the training part: 7 (" in said
    (sentence,) = [s for s in found.sentences() if "less often" in s]
    assert sentence.count("examples") == 1


def test_a_run_has_them_and_numbers_have_none(tmp_path: Path) -> None:
    run = fit(Recipe(epochs=2), DIGITS, out=tmp_path / "a")
    found = run.diagnose().by_class
    assert found.accuracy == pytest.approx(run.result["test_accuracy"])
    assert sum(c.examples for c in found.classes) == 359
    numbers = fit(Recipe(epochs=1), load("diabetes"), out=tmp_path / "b")
    assert numbers.diagnose().by_class is None


def test_a_perfect_network_has_no_worse_class() -> None:
    for n in range(1, 60):
        assert wilson_interval(1.0, n)[1] == 1.0
        assert wilson_interval(0.0, n)[0] == 0.0
    targets = np.arange(30) % 10
    p = np.eye(10)[targets]
    found = class_errors(Evidence(schema=DIGITS.schema, predicted=Predicted(targets, targets, p)))
    assert found is not None
    assert found.sentences() == []


def test_no_class_is_named_by_chance() -> None:
    """All classes are equally good; with Holm one in twenty draws may name one."""
    rng = np.random.default_rng(3)
    named = 0
    for _ in range(100):
        targets = rng.integers(0, 10, 400)
        right = rng.random(400) < 0.8
        chosen = np.where(right, targets, (targets + 1) % 10)
        p = np.eye(10)[chosen] * 0.5 + 0.05
        evidence = Evidence(schema=DIGITS.schema, predicted=Predicted(targets, chosen, p))
        found = class_errors(evidence)
        named += bool(found is not None and found.worse)
    assert named <= 12
