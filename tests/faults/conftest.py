"""Folders to be spoilt: each kind of training, finished and interrupted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import in_child

from danlu import Recipe, compare, decompose, ensemble, fit, load, treat, tune

RECIPE = Recipe(
    model={"name": "dense", "hidden": [8], "dropout": 0.2},
    optimizer="adam",
    epochs=3,
    batch_size=32,
)
GRID = {"optimizer.lr": [0.01, 0.1]}
SPACE = ["optimizer.lr=1e-3..1e-1:log", "model.hidden=[4],[8]"]


def _data() -> object:
    return load("digits", limit=300)


def _treated(out: Path) -> object:
    sick = fit(RECIPE.with_(["optimizer.lr=0.5"]), _data(), out=out.with_name(f"{out.name}-sick"))
    return treat(sick, seeds=2, rounds=1, out=out)


TRAININGS: dict[str, Callable[[Path], object]] = {
    "run": lambda out: fit(RECIPE, _data(), out=out, checkpoint_every=0.0),
    "comparison": lambda out: compare(_data(), GRID, recipe=RECIPE, seeds=2, out=out),
    "search": lambda out: tune(_data(), SPACE, recipe=RECIPE, trials=4, out=out),
    "treatment": _treated,
    "ensemble": lambda out: ensemble(RECIPE, _data(), members=3, out=out),
    "decomposition": lambda out: decompose(RECIPE, _data(), replicates=3, out=out),
}
_KILLED_AT = {"run": 60, "search": 40}  # events


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished and an interrupted folder of each kind, by its name."""
    root = tmp_path_factory.mktemp("folders")
    made = {}
    os.environ["DANLU_RUNS"] = str(root / "runs")
    for kind, begin in TRAININGS.items():
        finished, interrupted = root / kind, root / f"interrupted-{kind}"
        begin(finished)
        killed = in_child(
            lambda begin=begin, out=interrupted: begin(out),
            interrupted / ("run.json" if kind == "run" else "study.json"),
            at=_KILLED_AT.get(kind, 20),
        )
        assert killed.code == -9, killed
        made[kind], made[f"interrupted {kind}"] = finished, interrupted
    return made
