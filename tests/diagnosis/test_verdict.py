"""What is said of a finished run."""

from __future__ import annotations

from pathlib import Path

from danlu import Recipe, fit, load
from danlu.diagnosis import verdict
from danlu.report.pages.run_page import write_report
from danlu.train import train


def test_verdicts_name_no_learning_over_fitting_too_few_epochs_or_no_gap(tmp_path: Path) -> None:
    data = load("digits")
    constant = fit(
        Recipe(init="zeros", epochs=1, optimizer={"name": "sgd", "lr": 1e-6}),
        data,
        out=tmp_path / "a",
    )
    assert "has learnt nothing usable" in " ".join(verdict(constant))
    few = fit(
        Recipe(epochs=60, optimizer={"lr": 0.01}, batch_size=10),
        load("digits", limit=60),
        out=tmp_path / "b",
    )
    assert "variance (over-fitting)" in " ".join(verdict(few))
    short = fit(Recipe(epochs=5), data, out=tmp_path / "c")
    assert "still falling at the end" in " ".join(verdict(short))
    healthy = fit(Recipe.read("iris"), load("iris"), out=tmp_path / "d")
    assert "no gap to the test part is shown" in " ".join(verdict(healthy))


def test_where_no_part_was_scored_that_is_said(tmp_path: Path) -> None:
    study = train([Recipe(epochs=1)], load("iris"), parts=(), out=tmp_path / "a")
    assert "No part was scored" in verdict(study.run(0))[0]
    assert "No part was scored" in write_report(study.run(0)).read_text()
