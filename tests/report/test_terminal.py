from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from danlu import Recipe, fit, load
from danlu.report.pictures import as_image, half_blocks
from danlu.report.terminal import study_progress
from danlu.report.terminal.braille import Series, chart
from danlu.report.terminal.progress import (
    LogProgress,
    NotebookProgress,
    TerminalProgress,
    clock,
    terminal_curves,
)
from danlu.train import train
from danlu.train.dispatch.plan import Plan


def dots(lines: list[Any]) -> set[tuple[int, int]]:
    """Places of set dots (column, row) in a chart's canvas."""
    found = set()
    for r, line in enumerate(lines[1:-2]):
        for c, ch in enumerate(line.plain[9:]):
            for i, pair in enumerate(((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))):
                for j, bit in enumerate(pair):
                    if (ord(ch) - 0x2800) & bit:
                        found.add((2 * c + j, 4 * r + i))
    return found


def test_a_falling_curve_goes_from_corner_to_corner() -> None:
    lines = chart("loss", [Series("training", "red", [(1, 5.0), (2, 3.0), (3, 1.0)])], 40, 6)
    places = dots(lines)
    width = max(x for x, _ in places)
    assert (0, 0) in places
    assert (width, 23) in places
    assert len({x for x, _ in places}) == width + 1  # no gap
    assert all(abs(y - 23 * x / width) <= 1 for x, y in places)
    assert "5" in lines[1].plain
    assert lines[-1].plain.strip() == "━ training"


def test_curves_of_one_point_and_of_infinite_values_are_drawn() -> None:
    assert dots(chart("loss", [Series("a", "red", [(1, 2.0)])], 30))
    assert dots(chart("loss", [Series("a", "red", [(1, 2.0), (2, float("inf")), (3, 1.0)])], 30))


def test_times_are_shown_as_a_clock() -> None:
    assert [clock(s) for s in (0, 65, 3661)] == ["0:00", "1:05", "1:01:01"]


def test_the_log_has_few_lines_each_with_the_time_left(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fit(Recipe(epochs=3), load("iris"), out=tmp_path / "a", listener=LogProgress())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("left" in line and "%" in line for line in lines)
    fit(Recipe(epochs=200), load("iris"), out=tmp_path / "b", listener=LogProgress())
    assert len(capsys.readouterr().out.splitlines()) <= 22


def test_the_live_display_shows_curves_and_the_epoch(tmp_path: Path) -> None:
    progress = TerminalProgress()
    run = fit(Recipe(epochs=3), load("iris"), out=tmp_path / "run", listener=progress)
    assert "validation" in terminal_curves(run.history, run.metric, 100).plain
    assert "epoch 3/3" in progress.line()


def test_the_notebook_s_figure_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython.display

    shown: list[dict[str, Any]] = []

    class Handle:
        def update(self, bundle: dict[str, Any], raw: bool) -> None:
            shown.append(bundle)

    monkeypatch.setattr(IPython.display, "display", lambda *a, **k: Handle())
    fit(Recipe(epochs=3), load("iris"), out=tmp_path / "run", listener=NotebookProgress())
    assert [len(b["application/vnd.plotly.v1+json"]["data"][0]["x"]) for b in shown] == [1, 2, 3]


def test_pictures_become_images_and_half_blocks() -> None:
    x = torch.zeros(3, 8, 8, dtype=torch.uint8)
    x[0] = 255
    assert as_image(x).getpixel((3, 3)) == (255, 0, 0)
    digit = load("digits").x[0]
    assert np.array_equal(np.asarray(as_image(digit)), digit[0].numpy())
    assert np.asarray(as_image(digit.float() * 3)).max() == 255  # floats are stretched
    rows = half_blocks([digit, digit], 8)
    assert len(rows) == 4
    assert rows[0].count("▀") == 16


def test_a_study_s_progress_shows_done_best_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps as the engine would tell them, at known times: two networks of 100 steps each, half a second a step."""
    study = train(
        [Recipe(seed=s, epochs=1) for s in range(2)], load("iris"), out=tmp_path / "study"
    )
    study.path.joinpath("members.jsonl").write_text("")
    now = [10.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    log = study_progress.LogProgress()
    log.start(study, 200, 0)
    assert log.line() == "0/2 trained  –:–– left"
    now[0] += 50
    log.progress(100)
    log.ended(0, "finished", {"valid_accuracy": 0.75})
    log.ended(1, "diverged", {})
    assert log.line() == "2/2 trained  best valid accuracy 0.7500  1 diverged  0:50 left"
    for done in range(101, 201):
        now[0] += 0.5
        log.progress(done)
    assert 10 <= len(capsys.readouterr().out.splitlines()) <= 21, "not a line for each step"
    reason = "cannot be vectorised (…), so it trains one by one"
    log.plan([0, 1], Plan(2, 1, 1, 1, reason, is_surprising=True))
    log.plan([0, 1], Plan(2, 2, 1, 1, "fastest of 3 ways measured", {"vectorised by 2": 1e-4}))
    assert (
        capsys.readouterr().out
        == "2 networks one by one: cannot be vectorised (…), so it trains one by one\n"
    )


def test_a_search_s_progress_counts_trials_to_come(tmp_path: Path) -> None:
    study = train([Recipe(seed=s, epochs=1) for s in range(4)], load("iris"), out=tmp_path / "study",
                  facts={"kind": "tune", "trials": 8, "rounds": 2, "storage": None})  # fmt: skip
    log = study_progress.LogProgress()
    log.start(study, 100, 100)
    assert "4/16 trained" in log.line()
    assert log.steps_expected == 400


def test_a_study_s_live_line_shows_trained_and_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Console(force_terminal=True, width=100, file=io.StringIO())
    monkeypatch.setattr(study_progress, "get_console", lambda: screen)
    train([Recipe(seed=s, epochs=30) for s in range(3)], load("iris"), out=tmp_path / "s",
          listener=study_progress.TerminalProgress())  # fmt: skip
    drawn = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "/3 trained" in drawn
    assert "left" in drawn
