"""`danlu diagnose` as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from faults.spoiling import say

from danlu import Recipe, compare, fit, load
from danlu.cli.languages import language_of


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


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({"LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LC_ALL": "en_US.UTF-8", "LANG": "zh_CN.UTF-8"}, "en"),
    ],
)
def test_the_terminal_s_language_is_that_of_its_locale(
    variables: dict[str, str], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not this machine has the locale."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language_of(None) == language
    assert language_of("en") == "en"
