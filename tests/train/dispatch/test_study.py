"""A study on disk: killed and resumed exactly, its members opened as runs."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from folders import change_facts, keep_members
from pandas.testing import assert_frame_equal
from populations import assert_same
from processes import SLOW, Outcome, in_child
from torch import nn

from danlu import Recipe, Run, fit, load
from danlu.errors import Interrupted, RecipeError, RunError
from danlu.report.pages.run_page import write_report
from danlu.runs import Study
from danlu.train import StudyListener, create, extend, resume_study, train
from danlu.train.dispatch import plan, planner, workers
from danlu.train.engine.loop import Loop
from danlu.train.engine.population import Population


def recipes() -> list[Recipe]:
    base = Recipe(
        model={"name": "dense", "hidden": [24], "dropout": 0.2, "batch_norm": "after"},
        batch_size=16,
        epochs=6,
    )
    base = base.with_(["early_stopping.patience=2"])
    return [base.with_(seed=s, epochs=e, **{"optimizer.lr": lr}) for s, e, lr in
            ((0, 6, 0.01), (1, 2, 0.03), (2, 6, 0.001), (0, 4, 0.01), (3, 6, 0.003), (1, 6, 0.1))]  # fmt: skip


def train_in_child(path: Path, way: tuple[int, int], **event: Any) -> Outcome:
    """Train the study by a plan of (population size, workers)."""

    def work() -> None:
        told = plan.Plan(6, *way, 1, "told to")
        pytest.MonkeyPatch().setattr(planner, "choose_plan", lambda *a, **k: told)
        train(recipes(), load("digits"), out=path, checkpoint_every=0.05, probes="light")

    return in_child(work, path / "study.json", **event)


class Uninterrupted(NamedTuple):
    """A study that nothing came across, its way of training, and how many events it had."""

    study: Study
    way: tuple[int, int]
    events: int


@pytest.fixture(
    scope="module", params=[(6, 1), (4, 1), (3, 2), (1, 2)], ids=lambda p: f"{p[0]} by {p[1]}"
)
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Uninterrupted:
    path = tmp_path_factory.mktemp("whole") / "study"
    ended = train_in_child(path, request.param)
    assert ended.code == 0, ended.error
    return Uninterrupted(Study(path), request.param, ended.events)


@pytest.mark.parametrize("share", [SLOW(0.1), 0.4, SLOW(0.8)])
def test_killed_and_resumed_a_study_ends_the_same(
    tmp_path: Path, whole: Uninterrupted, share: float
) -> None:
    """Killed twice: at a share of its events, and at a quarter of what was left."""
    path, first = tmp_path / "study", round(share * whole.events)
    killed = train_in_child(path, whole.way, at=first)
    assert killed.code == -signal.SIGKILL, killed.error

    def go_on() -> None:
        resume_study(path, checkpoint_every=0.05)

    again = in_child(go_on, path / "study.json", at=max(1, (whole.events - first) // 4))
    assert again.code == -signal.SIGKILL, again.error
    ended = in_child(go_on, path / "study.json")
    assert ended.code == 0, ended.error
    assert_same(Study(path), whole.study)
    assert not (path / "checkpoint").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_study_asked_to_stop_saves_and_says_how_to_resume(
    tmp_path: Path, whole: Uninterrupted, stop: signal.Signals
) -> None:
    path = tmp_path / "study"
    stopped = train_in_child(path, whole.way, at=whole.events // 3, send=stop)
    assert stopped.code == 1
    assert f"go on with: danlu resume {path}" in stopped.error
    assert Study(path).status == "interrupted"
    assert_same(resume_study(path), whole.study)


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    def sleep(send: Any) -> None:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(600)

    program = os.fork()
    if program == 0:
        try:
            list(workers.run_workers([sleep, sleep], 2, lambda: False))
        finally:
            os._exit(1)
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    os.kill(program, signal.SIGKILL)
    os.waitpid(program, 0)
    children = [int(file.name) for file in tmp_path.iterdir()]
    wait_for(lambda: not any(_alive(child) for child in children))


def wait_for(what: Any, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return False


def test_a_pruner_is_given_the_epochs_before_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Judge:
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def observe(self, rows: Sequence[dict[str, Any]]) -> None:
            self.seen += [(row["member"], row["epoch"]) for row in rows]

        def prune(self, rows: Sequence[dict[str, Any]]) -> set[int]:
            self.observe(rows)
            return {row["member"] for row in rows if row["member"] == 1 and row["epoch"] == 2}

    class Enough(Exception):
        pass

    data, given, save = (
        load("iris"),
        [Recipe(epochs=3, batch_size=30, seed=s) for s in range(2)],
        Loop.save,
    )

    def save_and_stop(self: Loop) -> None:
        save(self)
        if self.steps == 5:  # in the second epoch
            raise Enough

    empty = create([], data, tmp_path / "study")
    with monkeypatch.context() as patch, pytest.raises(Enough):
        patch.setattr(Loop, "save", save_and_stop)
        extend(empty, given, data, pruner=Judge(), checkpoint_every=0.0)
    judge = Judge()
    study = resume_study(tmp_path / "study", data, pruner=judge)
    assert sorted(judge.seen) == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    assert [study.members[i].status for i in range(2)] == ["finished", "stopped"]
    assert [r["epochs"] for r in study.results] == [3, 2]


@pytest.mark.parametrize("chunk", [SLOW(6), 4, SLOW(1)])
def test_a_resumed_study_does_no_step_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Everything is deterministic, so equal ends alone would not show whether a checkpoint was read."""
    monkeypatch.setattr(
        planner, "choose_plan", lambda *a, **k: plan.Plan(6, chunk, 1, 1, "told to")
    )
    data, step, save, taken = load("digits"), Population.step, Loop.save, [0]

    class Enough(Exception):
        pass

    def counted(self: Population, *a: Any) -> Any:
        taken[0] += 1
        return step(self, *a)

    def save_and_stop(self: Loop) -> None:
        save(self)
        if taken[0] >= 150:
            raise Enough

    monkeypatch.setattr(Population, "step", counted)
    whole = train(recipes(), data, out=tmp_path / "whole", probes="light")
    steps, taken[0] = taken[0], 0
    with monkeypatch.context() as patch, pytest.raises(Enough):
        patch.setattr(Loop, "save", save_and_stop)
        train(recipes(), data, out=tmp_path / "study", checkpoint_every=0.0, probes="light")
    study = resume_study(tmp_path / "study", data)
    assert taken[0] == steps > 200
    assert_same(study, whole)


def test_a_worker_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "choose_plan", lambda *a, **k: plan.Plan(6, 1, 2, 1, "told to"))
    step = Population.step
    home = os.getpid()

    def die(self: Any, *a: Any) -> Any:
        if os.getpid() != home and self.recipes[0].seed == 2:
            os._exit(3)
        return step(self, *a)

    with monkeypatch.context() as patch:
        patch.setattr(Population, "step", die)
        with pytest.raises(RunError, match=r"a worker process died \(exit code 3\)"):
            train(recipes(), load("digits"), out=tmp_path / "study")
    study = resume_study(tmp_path / "study")
    assert sorted(study.members) == list(range(6))


def test_a_member_is_a_run_like_any_other(tmp_path: Path) -> None:
    data = load("digits")
    study = train(recipes(), data, out=tmp_path / "study")
    run = study.run(1)
    assert isinstance(run, Run)
    assert run.status == "finished"
    assert run.recipe == recipes()[1]
    assert len(run.history) == run.result["epochs"] == 2
    assert run.evaluate().accuracy == pytest.approx(run.result["test_accuracy"])
    assert run.predict(data.part("test")[0][:3]).values.shape == (3,)
    assert write_report(run).is_file()
    again = fit(
        Recipe(epochs=1, init={"weights": str(run.path)}, model=run.recipe.model.model_dump()),
        data,
        out=tmp_path / "again",
    )
    assert again.status == "finished"
    assert set(study.curves()["member"]) == set(range(6))
    with pytest.raises(RunError, match="`member` is 6, but must be 0 to 5"):
        study.run(6)


def test_a_study_may_leave_out_the_test_part(tmp_path: Path) -> None:
    study = train(recipes()[:2], load("digits"), out=tmp_path / "study", parts=("train", "valid"))
    assert all("test_loss" not in r and "valid_loss" in r for r in study.results)
    assert write_report(study.run(0)).is_file()


def test_a_listener_hears_of_start_progress_members_and_end(tmp_path: Path) -> None:
    heard: list[tuple[str, Any]] = []

    class Ear(StudyListener):
        interval = 0.0

        def start(self, study: Study, steps: int, done: int) -> None:
            heard.append(("start", (steps, done)))

        def progress(self, done: int) -> None:
            heard.append(("progress", done))

        def ended(self, member: int, status: str, result: dict[str, Any]) -> None:
            heard.append(("ended", (member, status)))

        def end(self, study: Study) -> None:
            heard.append(("end", None))

    base = Recipe(epochs=2, batch_size=32)
    train([base, base.with_(seed=1)], load("iris"), out=tmp_path / "study", listener=Ear())
    steps = 2 * 2 * -(-90 // 32)
    assert heard[0] == ("start", (steps, 0))
    assert heard[-1] == ("end", None)
    done = [v for k, v in heard if k == "progress"]
    assert done == sorted(done)
    assert done[-1] == steps
    assert [v for k, v in heard if k == "ended"] == [(0, "finished"), (1, "finished")]


def test_a_mistake_of_many_recipes_is_reported_once(tmp_path: Path) -> None:
    base = Recipe(batch_size=1000, epochs=1)
    with pytest.raises(RecipeError) as e:
        train([base.with_(seed=s) for s in range(5)], load("iris"), out=tmp_path / "study")
    assert (
        str(e.value) == "`batch_size` is 1000, but must be at most the 90 training examples; try 64"
    )
    with pytest.raises(RecipeError, match=r"try 64 \(recipe 1 of 3\)"):
        train([Recipe(), base, Recipe()], load("iris"), out=tmp_path / "study")
    with pytest.raises(RecipeError, match="needs at least one recipe"):
        train([], load("iris"), out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_foreign_and_finished_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a study folder"):
        Study(tmp_path)
    study = train([Recipe(epochs=1)], load("iris"), out=tmp_path / "study")
    with pytest.raises(RunError, match="is finished; there is nothing to resume"):
        resume_study(study)
    with pytest.raises(RunError, match="is no longer the data"):
        study.check_data(load("wine"))
    (tmp_path / "study/study.json").write_text('{"format": 99}')
    with pytest.raises(RunError, match="study format 99"):
        Study(tmp_path / "study")


def test_a_torn_line_of_the_members_hides_none(tmp_path: Path) -> None:
    study = train(recipes(), load("digits"), out=tmp_path / "study")
    whole = study.results
    file = tmp_path / "study" / "members.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3]) + lines[3][:40])
    change_facts(tmp_path / "study", status="running")
    again = resume_study(tmp_path / "study")
    assert sorted(again.members) == list(range(6))
    assert [r["epochs"] for r in again.results] == [r["epochs"] for r in whole]


def test_a_chunk_of_which_only_some_were_written_down_is_in_the_curves_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "choose_plan", lambda *a, **k: plan.Plan(6, 6, 1, 1, "told to"))
    study = train(recipes(), load("digits"), out=tmp_path / "study")
    before = study.curves()
    change_facts(study.path, status="running")
    keep_members(study.path, 2)
    study = resume_study(study.path)
    assert len(list((study.path / "curves").iterdir())) == 2
    assert sorted(study.members) == list(range(6))
    columns = ["member", "epoch", "step", "train_loss", "valid_loss"]
    assert_frame_equal(study.curves()[columns], before[columns], rtol=1e-5)


class Strangers(nn.Sequential):
    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__(nn.Linear(input_shape[0], outputs))


def test_a_stranger_s_network_is_not_imported(tmp_path: Path) -> None:
    study = train(
        [Recipe(model=f"{__name__}:Strangers", epochs=1, batch_size=16)],
        load("iris"),
        out=tmp_path / "study",
    )
    assert study.run(0).status == "finished"
    shutil.rmtree(tmp_path / "study" / "members")
    with pytest.raises(RunError, match="imports test_study:Strangers"):
        Study(tmp_path / "study").run(0)
    change_facts(tmp_path / "study", status="interrupted")
    (tmp_path / "study" / "members.jsonl").unlink()
    with pytest.raises(RunError, match="if you trust it, use --trust"):
        resume_study(tmp_path / "study")
    assert resume_study(tmp_path / "study", trust=True).status == "finished"


def test_after_ctrl_c_before_anything_is_saved_a_study_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes while a plan is being measured."""
    choose = planner.choose_plan

    def slow(*a: Any, **k: Any) -> plan.Plan:
        os.kill(os.getpid(), signal.SIGINT)
        return choose(*a, **k)

    monkeypatch.setattr(planner, "choose_plan", slow)
    with pytest.raises(Interrupted):
        train(recipes(), load("digits"), out=tmp_path / "study")
    monkeypatch.undo()
    assert resume_study(tmp_path / "study").status == "finished"
