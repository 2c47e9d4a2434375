"""The four cases of bias and variance, against an error that can be reached or is not known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import danlu
from danlu import Recipe, fit, load
from danlu.data import Schema
from danlu.diagnosis import verdict
from danlu.diagnosis.error_parts import error_parts
from danlu.diagnosis.evidence import Evidence
from danlu.errors import RunError

DIGITS = load("digits")


def evidence(
    training: float, validation: float, target: float | None, n: int = 2000, schema: Schema = DIGITS.schema
) -> Evidence:  # fmt: skip
    metric = schema.metric
    result = {f"train_{metric}": 1 - training, f"valid_{metric}": 1 - validation}
    result |= {"train_n": n, "valid_n": n}
    return Evidence(result=result, schema=schema, target_error=target)


@pytest.mark.parametrize(
    ("training", "validation", "target", "case"),
    [
        (0.01, 0.11, 0.0, "variance"),
        (0.15, 0.16, 0.0, "bias"),
        (0.15, 0.30, 0.0, "both"),
        (0.005, 0.01, 0.0, "neither"),
        (0.15, 0.16, 0.14, "neither"),  # where no more can be reached
        (0.01, 0.11, None, "variance"),
        (0.15, 0.16, None, "bias_or_noise"),
        (0.15, 0.30, None, "variance_or_more"),
    ],
)
def test_the_four_cases(
    training: float, validation: float, target: float | None, case: str
) -> None:
    found = error_parts(evidence(training, validation, target))
    assert found is not None
    assert found.case == case
    for language in ("en", "zh"):
        assert 2 <= len(found.sentences(language)) <= 4


def test_a_gap_on_few_examples_is_not_called_high() -> None:
    few, many = (error_parts(evidence(0.1, 0.2, 0.1, n)) for n in (20, 2000))
    assert few is not None and few.case == "neither"
    assert many is not None and many.case == "variance"
    assert few.variance.low < 0 < many.variance.low


def test_errors_of_numbers_are_what_is_not_explained() -> None:
    found = error_parts(evidence(0.3, 0.35, 0.1, schema=load("diabetes").schema))
    assert found is not None
    assert found.bias.value == pytest.approx(0.2)
    assert found.case == "bias"


def test_nothing_is_said_without_both_parts() -> None:
    assert error_parts(Evidence(result={"train_accuracy": 0.5}, schema=DIGITS.schema)) is None


def test_neighbours_show_bias_and_a_target_makes_it_a_finding(tmp_path: Path) -> None:
    run = fit(
        Recipe(model={"hidden": [3]}, epochs=60, optimizer={"lr": 0.003}),
        DIGITS,
        out=tmp_path / "a",
    )
    found = danlu.diagnose(run)
    assert found.errors is not None
    assert found.errors.known_by == "neighbours"
    assert found.errors.bias.low > 0
    with_target = run.diagnose(target_error=0.02)
    assert with_target.errors.known_by == "given"
    assert not with_target.is_healthy
    assert with_target.to_json()["errors"]["bias"]["low"] > 0


@pytest.mark.parametrize("error", [-0.1, 1.0, 20, float("nan")])
def test_an_error_that_is_no_share_is_refused(tmp_path: Path, error: float) -> None:
    run = fit(Recipe(epochs=1), load("iris"), out=tmp_path / "a")
    with pytest.raises(RunError, match="target_error"):
        danlu.diagnose(run, target_error=error)


def test_a_low_training_accuracy_is_called_bias(tmp_path: Path) -> None:
    """Where labels are half noise no network does better, which cannot be known."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 8)).astype(np.float32)
    labels = x[:, :4].argmax(1)
    is_noise = rng.random(3000) < 0.6
    labels[is_noise] = rng.integers(0, 4, is_noise.sum())
    run = fit(Recipe(epochs=5, model={"hidden": [16]}), load((x, labels)), out=tmp_path / "a")
    said = " ".join(verdict(run))
    assert 0.25 < run.result["train_accuracy"] < 0.65
    assert "bias (under-fitting), or noise" in said
