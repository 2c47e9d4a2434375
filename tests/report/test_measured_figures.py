"""What was measured, on a run's page."""

from __future__ import annotations

from pathlib import Path

import pytest

from danlu import Recipe, fit, load
from danlu.figures import measurements
from danlu.report.pages.run_page import write_report


def test_gradients_updates_and_histograms_are_drawn_as_measured(tmp_path: Path) -> None:
    run = fit(Recipe(epochs=3), load("iris"), out=tmp_path / "run")
    frame = run.measurements
    columns = run.measured().to_pydict()
    figure = measurements.by_layer(columns, ("weight_gradient", "a"), ("update_ratio", "b"))
    names = {trace["name"] for trace in figure["data"]}
    assert names == {"dense1", "dense2", "output"}
    (first,) = (t for t in figure["data"] if t["name"] == "dense1" and t["xaxis"] == "x")
    measured = frame[(frame.layer == "dense1") & frame.weight_gradient.notna()]
    assert first["x"] == measured.step.tolist()
    assert first["y"] == pytest.approx(measured.weight_gradient.tolist())
    outlines = measurements.histograms(columns)
    assert outlines is not None
    assert all(sum(t["y"]) == pytest.approx(1) for t in outlines["data"])
    page = write_report(run).read_text()
    assert "Gradients and updates" in page
    assert "Activations" in page


def test_a_run_that_measured_nothing_has_no_such_figures(tmp_path: Path) -> None:
    run = fit(Recipe(epochs=1), load("iris"), out=tmp_path / "run", probes="off")
    assert "Gradients and updates" not in write_report(run).read_text()


def test_of_many_layers_an_even_sample_is_drawn() -> None:
    names = [f"layer{k}" for k in range(40)]
    columns = {"layer": names, "step": [0] * 40, "weight_gradient": [1.0] * 40}
    shown = measurements.layers_of(columns, "weight_gradient")
    assert shown == names[::4]
