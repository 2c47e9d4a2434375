"""`danlu diagnose` as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from faults.spoiling import say

from danlu import Recipe, compare, fit, load


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sick") / "run"
    recipe = Recipe(model={"name": "dense", "hidden": (16,)}, optimizer={"lr": 1e-6}, epochs=5)
    fit(recipe, load("digits", limit=300, split="60/20/20"), out=path)
    return path


def test_the_next_command_has_the_data_s_own_options(sick: Path) -> None:
    out = say("diagnose", sick, "--lang", "en").out
    assert "learning rate too low (lr_too_low)" in out
    told = out.split("next: ")[1].split()
    assert told[:3] == ["danlu", "compare", "digits"]
    assert "--limit 300" in out
    assert "--split 60/20/20" in out
    assert "optimizer.lr=1e-06,1e-05" in out


def test_chinese_and_json(sick: Path) -> None:
    assert "学习率过小" in say("diagnose", sick, "--lang", "zh").out
    plain = json.loads(say("diagnose", sick, "--json", "--lang", "en").out)
    assert plain["run"] == str(sick)
    assert plain["findings"][0]["cause"] == "lr_too_low"


def test_mistakes_are_sentences(sick: Path, tmp_path: Path) -> None:
    said = say("diagnose", sick, "--lang", "fr")
    assert said.code == 2
    assert "`lang` is 'fr'" in said.err
    study = tmp_path / "study"
    compare(load("iris"), {"epochs": [1, 2]}, seeds=2, out=study)
    assert "Traceback" not in say("diagnose", study).err
    assert say("diagnose", study).code
