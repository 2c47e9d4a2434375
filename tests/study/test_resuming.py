"""`resume` goes on with whatever was interrupted, on data that only a program holds."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import danlu
from danlu import Comparison, Folds, Recipe, Run, Tuning
from danlu.errors import Interrupted, RunError
from danlu.train import StudyListener

X = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
PAIR = (X, (X[:, 0] > 0).astype(int))
RECIPE = Recipe(epochs=4, batch_size=16)


class StopAtOnce(StudyListener):
    """Presses Ctrl-C once training has begun."""

    interval = 0.0

    def progress(self, done: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)


class StopRun(danlu.Listener):
    """Presses Ctrl-C after the first epoch."""

    def epoch(self, run: Run, row: dict[str, Any]) -> None:
        if row["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGINT)


GRID = {"optimizer.lr": [0.1, 0.01]}
CALLS: dict[type, Callable[..., Any]] = {
    Run: lambda out, stop: danlu.fit(RECIPE, PAIR, out=out, listener=stop and StopRun()),
    Comparison: lambda out, stop: danlu.compare(
        PAIR, GRID, recipe=RECIPE, seeds=2, out=out, listener=stop and StopAtOnce()
    ),
    Tuning: lambda out, stop: danlu.tune(
        PAIR, GRID, recipe=RECIPE, trials=4, out=out, listener=stop and StopAtOnce()
    ),
    Folds: lambda out, stop: danlu.cross_validate(
        RECIPE, PAIR, folds=2, out=out, listener=stop and StopAtOnce()
    ),
}


def figures_of(found: Any) -> list[dict[str, Any]]:
    """Return what is compared of runs and studies: their final figures, without the time."""
    results = [found.result] if isinstance(found, Run) else found.study.results
    return [{k: v for k, v in r.items() if k != "seconds"} for r in results]


@pytest.mark.parametrize("kind", CALLS)
def test_what_was_stopped_on_arrays_ends_as_without_a_break(kind: type, tmp_path: Path) -> None:
    whole = CALLS[kind](tmp_path / "whole", None)
    with pytest.raises(Interrupted, match=r"danlu\.resume\('.*stopped', data\)"):
        CALLS[kind](tmp_path / "stopped", True)
    with pytest.raises(RunError, match="pass the same again"):
        danlu.resume(tmp_path / "stopped")
    with pytest.raises(RunError, match="are not those that"):
        danlu.resume(tmp_path / "stopped", (X + 1, PAIR[1]))
    found = danlu.resume(tmp_path / "stopped", PAIR)
    assert isinstance(found, kind) and figures_of(found) == figures_of(whole)
