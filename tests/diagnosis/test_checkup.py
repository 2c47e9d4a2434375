"""What is checked before training: sound starts pass, planted faults are told."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from faults.spoiling import say
from torch import Tensor, nn

import danlu
from danlu import Data, Recipe, check, load
from danlu.diagnosis import catalogue
from danlu.diagnosis.checkup.table import CHECKS
from danlu.errors import RecipeError

SOUND = Recipe(model={"name": "dense", "hidden": (32,)}, batch_size=32)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits", limit=500)


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("digits", []),
        ("digits", ["model=cnn", "optimizer=momentum"]),
        ("digits", ["model.batch_norm=before"]),
        ("digits", ["model.dropout=0.5", "augment.noise=0.5", "penalty.l2=100"]),
        ("diabetes", []),
        ("wine", ["batch_size=16"]),
        ("prose", None),
    ],
)
def test_sound_starts_pass(source: str, changes: list[str] | None) -> None:
    data = load(source, limit=400)
    recipe = Recipe.read("language") if changes is None else SOUND.with_(changes)
    began = time.perf_counter()
    found = check(recipe, data)
    assert found.is_sound, found
    assert found["starting_loss"].state == "ok"
    assert time.perf_counter() - began < 60  # about five seconds, on a machine that is not busy


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        (["init=zeros"], "gradients_reach"),
        (["init=normal", "init.std=3"], "starting_loss"),
        (["normalize=none"], "inputs_scaled"),
        (["model.batch_norm=before", "batch_size=2"], "batch_norm"),
        (["init=zeros"], "one_batch"),
    ],
)
def test_a_planted_fault_is_told(digits: Data, changes: list[str], name: str) -> None:
    found = check(SOUND.with_(changes), digits)
    assert found[name].state in ("wrong", "look")
    assert found[name].why() in "\n".join(found.sentences())


@pytest.mark.parametrize(("lr", "reason"), [(300.0, "lower_rate"), (1e-9, "higher_rate")])
def test_a_rate_out_of_range_is_told_with_one_inside(digits: Data, lr: float, reason: str) -> None:
    recipe = SOUND.with_([f"optimizer.lr={lr}"])
    found = check(recipe, digits, lr=True, seconds=20)["learning_rate"]
    assert found.state == "look"
    (cure,) = found.prescriptions
    assert cure.reason == reason
    suggested = recipe.with_([str(edit) for edit in cure.edits]).optimizer.lr or 0.0
    assert found.figures["low"] / 10 <= suggested <= found.figures["high"]
    again = check(recipe.with_([f"optimizer.lr={suggested}"]), digits, lr=True, seconds=20)
    assert again["learning_rate"].state == "ok"


def test_the_range_test_equals_training_each_rate_alone(digits: Data) -> None:
    from danlu.diagnosis.checkup.short_trainings import lr_range, plain
    from danlu.diagnosis.checkup.start import Start
    from danlu.train.dispatch.train import train

    start = Start(SOUND, digits, 30.0)
    found = lr_range(start)
    assert found is not None
    k = found.rates.index(0.01)
    recipe = plain(SOUND, 32).with_(["optimizer.lr=0.01"])
    data = start.few(32 * 60)
    epochs = max(1, round(found.steps / -(-data.size("train") // 32)))
    with torch.no_grad():
        study = train([recipe.with_(epochs=epochs)], data, parts=("train",),
                      out=digits.source.get("folder") or _folder())  # fmt: skip
    alone = study.results[0]["train_loss"] / min(start.loss, start.chance)
    assert found.losses[k] == pytest.approx(alone, rel=1e-3)


def _folder() -> Any:
    import tempfile
    from pathlib import Path

    return Path(tempfile.mkdtemp()) / "study"


class Mixes(nn.Module):
    """Takes the softmax over the batch instead of the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(self.out(F.relu(self.inner(x.flatten(1)))), dim=0)


class AlwaysDrops(nn.Module):
    """Forgot training=self.training."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.dropout(F.relu(self.inner(x.flatten(1))), 0.5))


class Detached(nn.Module):
    """No gradient comes to the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.inner(x.flatten(1))).detach())


@pytest.mark.parametrize(
    ("network", "name"),
    [(Mixes, "examples_apart"), (AlwaysDrops, "answers_steady"), (Detached, "gradients_reach")],
)
def test_faults_of_a_network_of_one_s_own(digits: Data, network: Any, name: str) -> None:
    found = check(network, digits, recipe=SOUND.with_(["model=dense"]))
    assert found[name].state == "wrong"
    assert not found.is_sound


def test_data_are_looked_at_too(digits: Data) -> None:
    x, y = torch.randn(300, 4), torch.arange(300) % 3
    x[:, 1] = y + 0.001 * torch.randn(300)
    found = check(SOUND, load((x.numpy(), y.numpy())))
    assert found["target_leak"].state == "look"
    assert found.is_sound


def test_mistakes_are_refused_before_anything_is_run(digits: Data) -> None:
    with pytest.raises(RecipeError, match="must be at most"):
        check(SOUND.with_(["batch_size=5000"]), digits)
    with pytest.raises(RecipeError, match="`seconds` is 0"):
        check(SOUND, digits, seconds=0)


@pytest.mark.parametrize("model", ["cnn", "dense"])
def test_with_little_time_a_part_of_the_batch_tells_the_cost(digits: Data, model: str) -> None:
    recipe = SOUND.with_([f"model={model}", "batch_size=128"])
    hasty, patient = check(recipe, digits, seconds=1e-4), check(recipe, digits, seconds=60)
    assert hasty["one_batch"].state == "skipped"
    assert hasty.is_sound
    took = [found["cost"].figures["bytes"] for found in (hasty, patient)]
    assert took[0] == pytest.approx(took[1], rel=0.1)
    assert hasty["cost"].figures["seconds"] > 0


def test_every_check_has_words_for_every_state() -> None:
    figures = dict.fromkeys(
        ("train", "loss", "chance", "ratio", "rms", "largest", "layers", "batch_size", "steps",
         "share", "lr", "low", "high", "best"), 1.0)  # fmt: skip
    figures |= {"train": 1, "names": "a", "time": "0:01", "memory": "1 MB"}
    for row in CHECKS:
        name = row.__name__
        for language in catalogue.LANGUAGES:
            assert catalogue.check_title(name, language)
            assert catalogue.checked(name, "ok", figures, language)


def test_the_command(tmp_path: Any) -> None:
    said = say("check", "digits", "--limit", "300", "--lr", "--lang", "en")
    assert said.code == 0
    assert "loss at the start" in said.out
    assert "nothing is wrong" in said.out
    broken = say("check", "digits", "init=zeros", "--limit", "300", "--json", "--lang", "zh")
    assert broken.code == 1
    plain = json.loads(broken.out)
    assert plain["sound"] is False
    assert "梯度" in said.out or any("没有到达" in row["why"] for row in plain["checks"])
    assert danlu.check is check
