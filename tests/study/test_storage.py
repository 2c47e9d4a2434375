"""Storages: shared by machines at once, killed, gone, with passwords; no trial is lost or counted twice."""

from __future__ import annotations

import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from searches import BASE, SPACE
from typer.testing import CliRunner

from danlu import Data, Recipe, Study, Tuning, load, tune
from danlu.cli import app
from danlu.errors import RunError, Untrusted
from danlu.study import continue_tuning, search
from danlu.study.opening import open_tuning
from danlu.study.space import Range
from danlu.study.storage import keep_url, url_of, without_password
from danlu.study.strategies import OWNER_TAG, Proposal, propose
from danlu.study.trials import Trials


def test_a_second_process_on_a_search_is_refused(found: Tuning) -> None:
    """Also between two of its batches, when nothing is being trained."""
    code = f"""
import sys
from pathlib import Path
from danlu.runs import folder
with folder.locked(Path({str(found.study.path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="is being trained by another process"):
            continue_tuning(found.study)
    finally:
        other.kill()
        other.wait()


def test_studies_that_share_a_storage_draw_different_trials(digits: Data, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "recipe": BASE,
        "storage": f"sqlite:///{tmp_path / 'shared.db'}",
        "name": "both",
    }
    a = tune(digits, SPACE[:1], trials=4, out=tmp_path / "a", **given)
    b = tune(digits, SPACE[:1], trials=8, out=tmp_path / "b", **given)
    rates = [t.own[i].values["optimizer.lr"] for t in (a, b) for i in range(4)]
    assert len(set(rates)) == 8


def test_the_second_study_on_a_storage_trains_what_is_missing(digits: Data, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    given: dict[str, Any] = {"recipe": BASE, "storage": url, "name": "both"}
    a = tune(digits, SPACE, trials=8, out=tmp_path / "a", **given)
    b = tune(digits, SPACE, trials=12, seed=1, out=tmp_path / "b", **given)
    assert (len(a.study), len(b.study)) == (8, 4), "the second trains what is missing"
    assert len(b.trials.store.get_trials()) == 12
    with pytest.raises(
        RunError, match="has a study of that name on other data; choose another --name"
    ):
        tune(load("iris"), SPACE, trials=1, out=tmp_path / "c", **given)
    with pytest.raises(RunError, match="on another space"):
        tune(digits, SPACE[:1], trials=1, out=tmp_path / "c", **given)
    assert not (tmp_path / "c").exists()


@pytest.mark.skipif(
    not shutil.which("initdb") and not shutil.which("postgres"),
    reason="no PostgreSQL on this machine",
)
def test_a_postgresql_server_holds_the_trials(digits: Data, tmp_path: Path) -> None:
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    tools = Path(os.path.realpath(shutil.which("postgres") or "")).parent
    user = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
    home = Path(tempfile.mkdtemp(prefix="danlu-pg-", dir="/tmp"))
    os.chmod(home, 0o777)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])

    def tool(name: str, *words: str) -> list[str]:
        return [*user, str(tools / name), *words]

    made = subprocess.run(
        tool("initdb", "-D", f"{home}/db", "-U", "danlu", "-A", "trust"),
        capture_output=True,
        cwd="/",
    )
    if made.returncode:
        pytest.skip(f"initdb does not run here: {made.stderr.decode()[-200:]}")
    server = subprocess.Popen(
        tool("postgres", "-D", f"{home}/db", "-p", port, "-k", str(home)),
        cwd="/",
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 300  # for a server that never answers
        while subprocess.run(
            tool("pg_isready", "-p", port, "-h", "localhost"), capture_output=True
        ).returncode:
            assert server.poll() is None, "it ended"
            assert time.monotonic() < end
            time.sleep(0.1)
        url = f"postgresql+psycopg2://danlu@localhost:{port}/postgres"
        t = tune(digits, SPACE, recipe=BASE, trials=6, storage=url, name="pg", out=tmp_path / "t")
        assert len(t.trials.store.get_trials()) == 6
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(home, ignore_errors=True)


SHARER = f"""
import sys
from pathlib import Path
from danlu import load
from danlu.study import tune
sys.path.insert(0, {str(Path(__file__).parent)!r})
from searches import BASE, SPACE
tune(load("digits"), SPACE, recipe=BASE, trials=24, rounds=2, storage=sys.argv[1], name="both", out=sys.argv[2])
"""


@pytest.mark.slow
def test_two_machines_at_once_are_one_search(digits: Data, tmp_path: Path) -> None:
    """As many trials as one would make, one winner, one reading of the test part, and both narrow to the same."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SHARER, url, str(tmp_path / k)], stderr=subprocess.PIPE
        )
        for k in "ab"
    ]
    assert [p.wait(900) for p in both] == [0, 0], [
        p.stderr and p.stderr.read().decode()[-500:] for p in both
    ]
    a, b = (open_tuning(Study(tmp_path / k, trust=True)) for k in "ab")
    trials = a.trials.claimed()
    assert sum(t.state == optuna.trial.TrialState.COMPLETE for t in trials) == len(a.ranked) == 48
    for number in (1, 2):
        assert sum(t.round == number for t in a.ranked) == 24
    assert len(a.study) + len(b.study) == 48
    assert a.winner == b.winner is not None
    assert (
        a.best
        == b.best
        == Recipe.read(str(tmp_path / "a" / "best.toml"))
        == Recipe.read(str(tmp_path / "b" / "best.toml"))
    )
    first = [t for t in a.ranked if t.round == 1][:5]
    rates = sorted(t.values["optimizer.lr"] for t in first)
    spare = (
        math.exp(max((math.log(rates[-1]) - math.log(rates[0])) / 8, math.log(1e4) / 20)) * 1.000001
    )
    assert all(
        rates[0] / spare <= t.values["optimizer.lr"] <= rates[-1] * spare
        for t in a.ranked
        if t.round == 2
    )


def test_machines_together_reserve_no_more_trials_than_asked(digits: Data, tmp_path: Path) -> None:
    given: dict[str, Any] = {"recipe": BASE, "storage": f"sqlite:///{tmp_path / 'shared.db'}"}
    t = tune(digits, SPACE[:1], trials=1, out=tmp_path / "a", **given)
    one = t.trials
    two = Trials(one.url, {**t.study.info, "id": "other"}, one.space, digits.fingerprint)
    sampler = optuna.samplers.RandomSampler(seed=1)
    taken = [
        trials.reserve(one.space, 1, 10, 6, 1, sampler, lambda values: True)
        for trials in (one, two, one)
    ]
    assert [len(of) for of in taken] == [6, 3, 0]
    assert one.begun(1) == 10


def test_the_test_part_is_not_read_again_for_a_trial_that_came_later(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"recipe": BASE, "storage": f"sqlite:///{tmp_path / 'shared.db'}"}
    names = iter("bcdefgh")  # of studies: of these the draws are made
    monkeypatch.setattr(
        search, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=next(names)))
    )
    a = tune(digits, SPACE[:1], trials=1, out=tmp_path / "a", **given)
    b = tune(digits, SPACE[:1], trials=24, out=tmp_path / "b", **given)
    assert b.ranked[0].figure > a.ranked[0].figure
    assert b.winner == a.winner
    assert "It ended after the test part had been read, once, for the best until then" in " ".join(
        b.sentences()
    )
    assert b.best == a.best, "what has a test figure"
    page = CliRunner().invoke(app, ["report", "--trust", str(b.study.path)])
    assert f"lr = {b.best.optimizer.lr}" in Path(page.output.strip()).read_text()


def test_passwords_are_never_shown_and_kept_in_a_private_file(digits: Data, tmp_path: Path) -> None:
    url = "postgresql://me:s3cret@localhost:1/none"
    assert without_password(url) == "postgresql://me:***@localhost:1/none"
    with pytest.raises(RunError) as e:
        tune(digits, SPACE, recipe=BASE, storage=url, out=tmp_path / "t")
    assert "s3cret" not in str(e.value)
    given = {"recipe": BASE, "storage": f"sqlite:///{tmp_path / 'shared.db'}"}
    study = tune(digits, SPACE[:1], trials=1, out=tmp_path / "s", **given).study
    keep_url(study, url)
    assert url_of(study) == url
    with pytest.raises(
        Untrusted, match="opening that connects to it; if you trust it, use --trust"
    ):
        url_of(Study(study.path))
    assert (study.path / "storage.url").stat().st_mode & 0o77 == 0


def test_a_round_does_not_wait_for_a_later_round(digits: Data, tmp_path: Path) -> None:
    """Else a machine whose others are always a batch ahead would never get to train."""
    given: dict[str, Any] = {"recipe": BASE, "storage": f"sqlite:///{tmp_path / 'shared.db'}"}
    t = tune(digits, SPACE[:1], trials=1, out=tmp_path / "a", **given)
    other = Trials(t.trials.url, {**t.study.info, "id": "other"}, t.space, digits.fingerprint)
    other.reserve(t.space, 2, 10, 4, 1, optuna.samplers.RandomSampler(seed=1), lambda values: True)
    t.trials.wait(1, pytest.fail, tmp_path)  # it says so before it waits
    assert len(t.trials.running(own=False)) == 4


@pytest.mark.parametrize("sampler", [optuna.samplers.RandomSampler, optuna.samplers.TPESampler])
def test_a_trial_is_claimed_only_after_its_heartbeat(sampler: Any) -> None:
    study, alive = optuna.create_study(sampler=sampler(seed=0)), []

    def heartbeat(trial: int) -> None:
        assert OWNER_TAG not in study.get_trials()[trial].user_attrs
        alive.append(trial)

    unit: dict[str, Any] = {"x": Range(0, 1)}
    propose(study, Proposal(unit, unit, 1, lambda values: True, heartbeat), "abc")
    assert alive == [0, 1, 2]
    assert [t.user_attrs[OWNER_TAG] for t in study.get_trials()] == ["a", "b", "c"]


def test_results_of_a_machine_wrongly_taken_for_dead_are_kept(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others took the machine for dead, and it was not."""
    given: dict[str, Any] = {"recipe": BASE, "storage": f"sqlite:///{tmp_path / 'shared.db'}"}
    real = search.extend

    def slow(study: Study, *a: Any, **k: Any) -> Study:
        held = optuna.load_study(storage=given["storage"], study_name="danlu")
        for t in held.get_trials():
            held.tell(t.number, state=optuna.trial.TrialState.FAIL)
        return real(study, *a, **k)

    monkeypatch.setattr(search, "extend", slow)
    t = tune(digits, SPACE[:1], trials=3, out=tmp_path / "a", **given)
    assert len(t.ranked) == len(t.study) == 3
    again = continue_tuning(t.study)
    assert len(again.ranked) == 3, "and not once more"


def test_passwords_with_special_characters_are_hidden() -> None:
    assert without_password("postgresql://u:a@b:c@host/db") == "postgresql://u:***@host/db"
    assert without_password("postgresql://u:p@host:PORT/db") == "postgresql://u:***@host:PORT/db"
    assert without_password("sqlite:////tmp/x.db") == "sqlite:////tmp/x.db"
    with pytest.raises(RunError) as e:
        tune(load("iris"), SPACE, recipe=BASE, storage="postgresql://u:s3@cr:et@host/db")
    assert "s3" not in str(e.value)
    assert "cr:et" not in str(e.value)
