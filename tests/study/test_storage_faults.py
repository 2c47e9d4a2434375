"""Searches in a storage, when it or a machine fails: killed, gone, without an answer."""

from __future__ import annotations

import contextlib
import functools
import signal
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from folders import change_facts
from processes import SLOW, Outcome, in_child
from searches import BASE, LONG, LONG_SPACE, SPACE

from danlu import Data, Study, load, tune
from danlu.errors import RunError
from danlu.study import continue_tuning, search, storage
from danlu.study.opening import open_tuning
from danlu.study.strategies import ROUND, UNCLAIMED
from danlu.study.trials import Trials
from danlu.train.dispatch import planner
from danlu.train.dispatch.plan import Plan
from danlu.train.engine.loop import Loop

STRATEGIES = ["random", "halving", "bayes"]


def together(patch: pytest.MonkeyPatch) -> None:
    """All of a batch train as one population: a plan that was measured may be another each time."""

    def choose(recipes: Any, *others: Any) -> Plan:
        return Plan(len(recipes), len(recipes), 1, 1, "told to")

    patch.setattr(planner, "choose_plan", choose)


def tune_in_child(path: Path, strategy: str, at: int | None = None) -> Outcome:
    def work() -> None:
        together(pytest.MonkeyPatch())
        rounds = 1 if strategy == "bayes" else 2
        given: dict[str, Any] = {"trials": 12, "rounds": rounds, "strategy": strategy}
        tune(load("digits"), SPACE, recipe=BASE, out=path, **given)

    return in_child(work, path / "study.json", at)


@pytest.fixture(scope="module", params=STRATEGIES)
def uninterrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Study, int]:
    """A strategy, a search by it that nothing came across, and how many events it had."""
    path = tmp_path_factory.mktemp("uninterrupted") / "study"
    ended = tune_in_child(path, request.param)
    assert ended.code == 0, ended.error
    return request.param, Study(path), ended.events


@pytest.mark.parametrize("share", [SLOW(0.0), 0.3, SLOW(0.8)])
def test_killed_and_resumed_no_trial_is_lost_or_counted_twice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: tuple[str, Study, int],
    share: float,
) -> None:
    strategy, whole, events = uninterrupted
    killed = tune_in_child(tmp_path / "study", strategy, at=1 + int(share * events))
    assert killed.code == -signal.SIGKILL, killed.error
    together(monkeypatch)
    t = continue_tuning(Study(tmp_path / "study"))
    expected, trials = len(whole), t.trials.store.get_trials(deepcopy=False)
    complete = [x for x in trials if x.state == optuna.trial.TrialState.COMPLETE]
    assert len(complete) == len(t.study) == len(t.study.members) == expected
    assert sorted(int(x.user_attrs["mark"].split(":")[1]) for x in complete) == list(
        range(expected)
    )
    assert not any(x.state == optuna.trial.TrialState.RUNNING for x in trials)
    assert t.winner is not None
    if strategy != "bayes":  # whose proposals know of trials that failed
        assert t.study.recipes == whole.recipes
        assert [r["epochs"] for r in t.study.results] == [r["epochs"] for r in whole.results]


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
def test_a_storage_that_does_not_answer_is_one_sentence(
    url: str, digits: Data, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="but it does not answer") as e:
        tune(digits, SPACE, recipe=BASE, storage=url, out=tmp_path / "t")
    assert len(str(e.value).splitlines()) == 1
    assert not (tmp_path / "t").exists()


def test_trials_of_a_dead_machine_are_run_again(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone are those that sent no heartbeat for long; here that is no time at all."""
    given: dict[str, Any] = {"recipe": BASE, "storage": f"sqlite:///{tmp_path / 'shared.db'}"}

    def gone(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(search, "extend", gone)
        tune(digits, SPACE[:1], trials=6, out=tmp_path / "gone", **given)
    monkeypatch.setattr(storage, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(storage, "DEAD_AFTER_SECONDS", 1)
    let_time_pass(tmp_path / "shared.db")
    heard: list[str] = []
    t = tune(digits, SPACE[:1], trials=8, out=tmp_path / "a", report=heard.append, **given)
    assert "waiting for 6 trials of other machines…" in heard
    assert len(t.ranked) == len(t.study) == 8
    back = continue_tuning(Study(tmp_path / "gone", trust=True))
    assert len(back.study) == 0
    assert back.winner == t.winner
    assert (tmp_path / "gone" / "best.toml").read_text() == (
        tmp_path / "a" / "best.toml"
    ).read_text()


def let_time_pass(file: Path) -> None:
    """Put back every heartbeat in a storage by an hour."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        changed = database.execute(
            "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')"
        )
        assert changed.rowcount == 6


def test_a_storage_lost_midway_ends_in_one_sentence(
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


def test_a_storage_without_the_search_is_refused(digits: Data, tmp_path: Path) -> None:
    t = tune(digits, SPACE[:1], recipe=BASE, trials=2, out=tmp_path / "t")
    optuna.delete_study(study_name="danlu", storage=t.trials.url)
    with pytest.raises(RunError, match="but it does not answer") as e:
        open_tuning(Study(tmp_path / "t"))
    assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize("strategy", [SLOW("random"), "halving"])
def test_killed_in_training_a_search_goes_on_from_a_checkpoint(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    together(monkeypatch)  # halving asks who was there first
    given: dict[str, Any] = {"recipe": LONG, "trials": 6, "strategy": strategy}
    whole = tune(digits, LONG_SPACE, out=tmp_path / "whole", **given)
    path = tmp_path / "study"

    def work() -> None:
        often = functools.partial(continue_tuning, checkpoint_every=0.1)
        monkeypatch.setattr(search, "continue_tuning", often)
        tune(digits, LONG_SPACE, out=path, **given)

    killed = in_child(work, path / "study.json", at=200)
    assert killed.code == -signal.SIGKILL, killed.error
    assert list(path.glob("checkpoint/*/[0-9]*.safetensors")), "in the middle of a training"
    restored = []
    restore = Loop.restore
    monkeypatch.setattr(Loop, "restore", lambda self, *a: restored.append(1) or restore(self, *a))
    t = continue_tuning(Study(path))
    assert restored
    assert t.study.recipes == whole.study.recipes
    assert [r["epochs"] for r in t.study.results] == [r["epochs"] for r in whole.study.results]
    assert [r["valid_loss"] for r in t.study.results] == [
        r["valid_loss"] for r in whole.study.results
    ]


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


def test_unclaimed_trials_of_a_killed_machine_hold_nobody_up(
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
    monkeypatch.setattr(storage, "UNCLAIMED_SECONDS", -1)
    assert len(draw()) == 1


def test_unclaimed_trials_of_this_machine_are_drawn_anew_after_a_kill(
    digits: Data, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"recipe": BASE, "storage": f"sqlite:///{tmp_path / 'shared.db'}"}
    t = tune(digits, SPACE[:1], trials=1, out=tmp_path / "a", **given).trials
    change_facts(tmp_path / "a", trials=3)
    t.store.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, params={"optimizer.lr": 0.01}, user_attrs={UNCLAIMED: f"{t.id}:1", ROUND: 1},
            distributions={"optimizer.lr": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)},
        )
    )  # fmt: skip
    assert len(continue_tuning(Study(tmp_path / "a", trust=True)).ranked) == 3
