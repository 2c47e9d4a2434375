"""SIGKILL at every kind of training, twice at some: what goes on comes to the same bits."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.test_spoilt_folders import weights_of
from processes import in_child

from danlu import Recipe, Run, Study, compare, cross_validate, fit, load, resume, tune
from danlu.study.opening import open_tuning

RECIPE = Recipe(model={"name": "dense", "hidden": [8], "dropout": 0.2}, optimizer="adam", epochs=6)
SMALL = {"model.hidden": [8], "model.embedding": 4, "epochs": 3, "batch_size": 16}
SPACE = ["optimizer.lr=1e-3..1e-1:log", "model.hidden=[4],[8]"]
KILLS = 20


def _digits() -> object:
    return load("digits", limit=300)


def _of_text(preset: str, source: str) -> Callable[[Path], object]:
    recipe = Recipe.read(preset).with_(**SMALL)
    return lambda out: fit(recipe, load(source, limit=100), out=out, checkpoint_every=0.0)


def _search(strategy: str) -> Callable[[Path], object]:
    return lambda out: tune(
        _digits(),
        SPACE,
        recipe=RECIPE,
        trials=8,
        strategy=strategy,
        out=out,
        yes=True,
        probes="light",
    )


TRAININGS: dict[str, Callable[[Path], object]] = {
    "run": lambda out: fit(RECIPE, _digits(), out=out, checkpoint_every=0.0),
    "run in bf16": lambda out: fit(
        RECIPE.with_(dtype="bf16-mixed"), _digits(), out=out, checkpoint_every=0.0
    ),
    "text": _of_text("language", "prose"),
    "translation": _of_text("translation", "spelling"),
    "comparison": lambda out: compare(
        _digits(), {"optimizer.lr": [0.01, 0.1]}, recipe=RECIPE, seeds=3, out=out
    ),
    "cross-validation": lambda out: cross_validate(RECIPE, _digits(), folds=3, out=out),
    "random search": _search("random"),
    "Bayesian search": _search("bayes"),
    "halving search": _search("halving"),
}


def figures_of(folder: Path) -> object:
    """Return all that a finished training came to."""
    found: dict[str, object] = {"weights": weights_of(folder)}
    if not (folder / "study.json").exists():
        found["measurements"] = Run(folder).measured().to_pydict()
    if (folder / "study.json").exists():
        facts = json.loads((folder / "study.json").read_text())
        if facts["kind"] == "tune":
            members = Study(folder).measurements().to_dict("list")
            found["measurements"] = {name: str(values) for name, values in members.items()}
            tuning = open_tuning(Study(folder))
            found["trials"] = [(t.member, t.figure, t.epochs, str(t.values)) for t in tuning.ranked]
    return found


def killed_and_resumed(kind: str, tmp_path: Path, kills: int) -> int:
    """Kill a training at as many events, each alone; return how many times it went on."""
    begin = TRAININGS[kind]
    whole = tmp_path / "whole"
    index = "run.json" if kind in ("run", "run in bf16", "text", "translation") else "study.json"
    finished = in_child(lambda: begin(whole), whole / index)
    assert finished.code == 0, finished.error
    expected = figures_of(whole)
    rng = random.Random(kind)
    deaths = 0
    for number in range(kills):
        out = tmp_path / f"{number}"
        killed = in_child(lambda o=out: begin(o), out / index, at=rng.randint(1, finished.events))
        deaths += killed.code == -9
        if rng.random() < 0.5:  # and again while it goes on
            at = rng.randint(1, finished.events)
            deaths += in_child(lambda o=out: resume(o), out / index, at=at).code == -9
        ended = in_child(lambda o=out: resume(o), out / index)
        assert ended.code == 0 or "nothing to resume" in ended.error
        assert figures_of(out) == expected, number
    return deaths


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", TRAININGS)
def test_twenty_kills_change_no_bit(kind: str, tmp_path: Path) -> None:
    print(json.dumps({"kind": kind, "kills": killed_and_resumed(kind, tmp_path, KILLS)}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["run in bf16", "translation", "Bayesian search", "halving search"]
)
def test_a_kill_changes_no_bit(kind: str, tmp_path: Path) -> None:
    killed_and_resumed(kind, tmp_path, 2)
