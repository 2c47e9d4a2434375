"""Searches in a storage, when it or a machine fails: killed, gone, without an answer."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from searches import BASE, LONG, LONG_SPACE, SPACE

from danlu import Data, Study, load, tune
from danlu.errors import RunError
from danlu.study import continue_tuning, search, storage
from danlu.study.search import open_tuning
from danlu.study.strategies import ROUND, UNCLAIMED
from danlu.study.trials import Trials
from danlu.train.dispatch import choose, provenance
from danlu.train.engine.loop import Loop

KILLED = f"""
import sys
from danlu import Recipe, load
from danlu.study import tune
sys.path.insert(0, {str(Path(__file__).parent)!r})
from searches import BASE, SPACE
tune(load("digits"), SPACE, recipe=BASE, trials=12, rounds=int(sys.argv[3]), strategy=sys.argv[2], out=sys.argv[1])
"""


@pytest.mark.parametrize("strategy", ["random", "halving", "bayes"])
@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6])
def test_killed_and_resumed_no_trial_is_lost_or_told_twice(
    tmp_path: Path, strategy: str, delay: float
) -> None:
    path, rounds = tmp_path / "study", 1 if strategy == "bayes" else 2
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), strategy, str(rounds)], stderr=subprocess.PIPE
    )
    end = time.monotonic() + 60
    while not (path / "study.json").is_file() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    t = continue_tuning(Study(path))
    expected, trials = 12 * rounds, t.trials.store.get_trials(deepcopy=False)
    complete = [x for x in trials if x.state == optuna.trial.TrialState.COMPLETE]
    assert len(complete) == len(t.study) == len(t.study.members) == expected
    assert sorted(int(x.user_attrs["mark"].split(":")[1]) for x in complete) == list(
        range(expected)
    )
    assert not any(x.state == optuna.trial.TrialState.RUNNING for x in trials)
    assert t.winner is not None
    if strategy != "bayes":  # whose proposals know of trials that failed
        whole = tune(
            load("digits"),
            SPACE,
            recipe=BASE,
            trials=12,
            rounds=2,
            strategy=strategy,
            out=tmp_path / "whole",
        )
        assert t.study.recipes == whole.study.recipes
        assert [r["epochs"] for r in t.study.results] == [r["epochs"] for r in whole.study.results]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://nobody@localhost:1/none",
        "postgresql://nobody@localhost:port/none",
        "nonsense://x",
        "nonsense",
        "sqlite:////no/such/folder/x.db",
        f"sqlite:///{__file__}",
    ],
)
def test_a_storage_that_does_not_answer(url: str, digits: Data, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="but it does not answer") as e:
        tune(digits, SPACE, recipe=BASE, storage=url, out=tmp_path / "t")
    assert len(str(e.value).splitlines()) == 1
    assert not (tmp_path / "t").exists()


def test_trials_of_a_machine_that_is_gone_are_made_up_for(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"recipe": BASE, "storage": f"sqlite:///{tmp_path / 'shared.db'}"}
    monkeypatch.setattr(storage, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(storage, "DEAD_AFTER_SECONDS", 2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            search, "extend", lambda *a, **k: os.kill(os.getpid(), signal.SIGINT) or time.sleep(9)
        )
        tune(digits, SPACE[:1], trials=6, out=tmp_path / "gone", **given)
    heard: list[str] = []
    t = tune(digits, SPACE[:1], trials=8, out=tmp_path / "a", report=heard.append, **given)
    assert "waiting for 6 trials of other machines…" in heard
    assert len(t.ranked) == len(t.study) == 8
    back = continue_tuning(Study(tmp_path / "gone"))
    assert len(back.study) == 0
    assert back.winner == t.winner
    assert (tmp_path / "gone" / "best.toml").read_text() == (
        tmp_path / "a" / "best.toml"
    ).read_text()


def test_a_storage_that_goes_away_in_the_middle(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "shared.db"
    real = search.extend
    monkeypatch.setattr(
        search, "extend", lambda *a, **k: file.write_bytes(b"no database") and real(*a, **k)
    )
    with pytest.raises(RunError, match="but it does not answer") as e:
        tune(
            digits,
            SPACE[:1],
            recipe=BASE,
            trials=2,
            storage=f"sqlite:///{file}",
            out=tmp_path / "t",
        )
    assert len(str(e.value).splitlines()) == 1
    assert len(Study(tmp_path / "t").members) == 2, "what was trained is not lost"


def test_a_storage_that_has_lost_the_search(digits: Data, tmp_path: Path) -> None:
    t = tune(digits, SPACE[:1], recipe=BASE, trials=2, out=tmp_path / "t")
    optuna.delete_study(study_name="danlu", storage=t.trials.url)
    with pytest.raises(RunError, match="but it does not answer") as e:
        open_tuning(Study(tmp_path / "t"))
    assert len(str(e.value).splitlines()) == 1


IN_THE_MIDDLE = f"""
import functools, math, sys
from danlu import load
from danlu.study import search
from danlu.train.dispatch import choose
sys.path.insert(0, {str(Path(__file__).parent)!r})
from searches import LONG, LONG_SPACE
choose._TOO_SHORT = math.inf
search.continue_tuning = functools.partial(search.continue_tuning, checkpoint_every=0.02)
search.tune(load("digits"), LONG_SPACE, recipe=LONG, trials=6, strategy=sys.argv[2], out=sys.argv[1])
"""


@pytest.mark.parametrize("strategy", ["random", "halving"])
def test_killed_while_it_trains_it_goes_on_from_a_checkpoint(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    monkeypatch.setattr(
        choose, "_TOO_SHORT", math.inf
    )  # all together, and not what was fastest: halving asks who was there first
    for attempt in range(10):  # until it is killed in the middle, and not just after
        path = tmp_path / f"study{attempt}"
        process = subprocess.Popen(
            [sys.executable, "-c", IN_THE_MIDDLE, str(path), strategy], stderr=subprocess.PIPE
        )
        end = time.monotonic() + 60
        while (
            not list(path.glob("checkpoint/*/[0-9]*.safetensors"))
            and process.poll() is None
            and time.monotonic() < end
        ):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if list(path.glob("checkpoint/*/[0-9]*.safetensors")):
            break
    else:
        pytest.fail("it was never killed in the middle")
    restored = []
    restore = Loop.restore
    monkeypatch.setattr(Loop, "restore", lambda self, *a: restored.append(1) or restore(self, *a))
    t = continue_tuning(Study(path))
    assert restored
    whole = tune(
        digits, LONG_SPACE, recipe=LONG, trials=6, strategy=strategy, out=tmp_path / "whole"
    )
    assert t.study.recipes == whole.study.recipes
    assert [r["epochs"] for r in t.study.results] == [r["epochs"] for r in whole.study.results]
    assert [r["valid_loss"] for r in t.study.results] == pytest.approx(
        [r["valid_loss"] for r in whole.study.results], rel=1e-4
    )


def test_a_heartbeat_that_fails_stops_no_training(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"recipe": BASE, "storage": f"sqlite:///{tmp_path / 'shared.db'}"}
    trials = tune(digits, SPACE[:1], trials=1, out=tmp_path / "a", **given).trials
    trials.reserve(
        trials.space, 1, 10, 2, 1, optuna.samplers.RandomSampler(seed=1), lambda values: True
    )
    beats = []

    def fail(self: Any, trial: int) -> None:
        beats.append(trial)
        raise optuna.exceptions.StorageInternalError("locked")

    monkeypatch.setattr(optuna.storages.RDBStorage, "record_heartbeat", fail)
    trials.last_heartbeat = -1e9
    trials.heartbeat()
    assert len(beats) == 1
    trials.heartbeat()
    assert len(beats) == 1, "not at every step"


def test_what_a_machine_that_was_killed_had_only_drawn_holds_nobody_up(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"recipe": BASE, "storage": f"sqlite:///{tmp_path / 'shared.db'}"}
    t = tune(digits, SPACE[:1], trials=1, out=tmp_path / "a", **given).trials
    drawn = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING, params={"optimizer.lr": 0.01}, user_attrs={UNCLAIMED: "gone:0", ROUND: 1},
        distributions={"optimizer.lr": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)},
    )  # fmt: skip
    t.store.add_trial(drawn)
    other = Trials(
        t.url, {**Study(tmp_path / "a").info, "id": "other"}, t.space, digits.fingerprint
    )

    def draw() -> list[Any]:
        sampler = optuna.samplers.RandomSampler()
        return other.reserve(t.space, 1, 2, 1, 0, sampler, lambda values: True)

    assert draw() == [], "two are all there are, and the other may still be marked"
    monkeypatch.setattr(storage, "DEAD_AFTER_SECONDS", -1)
    assert len(draw()) == 1


def test_what_this_machine_had_only_drawn_when_it_was_killed_is_drawn_anew(
    digits: Data, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"recipe": BASE, "storage": f"sqlite:///{tmp_path / 'shared.db'}"}
    t = tune(digits, SPACE[:1], trials=1, out=tmp_path / "a", **given).trials
    provenance.update_json(tmp_path / "a" / "study.json", trials=3)
    t.store.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, params={"optimizer.lr": 0.01}, user_attrs={UNCLAIMED: f"{t.id}:1", ROUND: 1},
            distributions={"optimizer.lr": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)},
        )
    )  # fmt: skip
    assert len(continue_tuning(Study(tmp_path / "a")).ranked) == 3
