"""A study on a Ray cluster of several nodes: the numbers of this machine, whatever dies in the middle."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from populations import assert_same

from danlu import Recipe, compare, fit, load, tune
from danlu.errors import Interrupted, RunError
from danlu.runs import Study
from danlu.train import StudyListener, create, extend, resume_study, train
from danlu.train.dispatch import cluster, plan, planner
from danlu.train.dispatch.reports import StepsDone
from danlu.train.dispatch.scheduler import StudyScheduler

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.slow
BASE = Recipe(
    model={"name": "dense", "hidden": [24], "dropout": 0.2}, batch_size=16, dtype="float64"
)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head without cores, and two machines of one core each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.machines = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made
    ray.shutdown()
    made.shutdown()


def recipes(epochs: int = 3) -> list[Recipe]:
    return [
        BASE.with_(seed=s, epochs=epochs, **{"optimizer.lr": 0.001 * (s + 1)}) for s in range(8)
    ]


def by(chunk: int) -> Any:
    return lambda *a, **k: plan.Plan(8, chunk, 1, 1, "told to")


def told(monkeypatch: pytest.MonkeyPatch, way: plan.Plan) -> None:
    """Nothing is measured on the cluster: that is the way."""
    monkeypatch.setattr(cluster.Cluster, "start_planning", lambda *a: None)
    monkeypatch.setattr(cluster.Cluster, "wait_for_plan", lambda *a: way)


def test_a_cluster_gives_the_same_numbers_as_this_machine(nodes: Any, tmp_path: Path) -> None:
    data = load("digits")
    away = train(recipes(), data, out=tmp_path / "away", ray=nodes.address)
    (way,) = away.info["plans"]
    assert way["where"] == "ray"
    assert way["workers"] == 2, "as many as the cluster has cores"
    assert not (away.path / "checkpoint").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "choose_plan", by(way["population_size"]))
        assert_same(away, train(recipes(), data, out=tmp_path / "here"))


def told_and_held(monkeypatch: pytest.MonkeyPatch, way: plan.Plan, hold: Path) -> None:
    """Tasks train by that plan, and stay at their 20th step while the file is there.

    They save there, and go on saving; so what happens meanwhile happens in the middle.
    """

    def train_task(*given: Any) -> Any:
        from danlu.train.dispatch import task
        from danlu.train.engine.loop import Loop

        go_on = Loop._between_steps

        def stay(self: Loop) -> None:
            while self.steps == 20 and hold.exists():
                go_on(self)
                time.sleep(0.01)
            go_on(self)

        Loop._between_steps = stay  # type: ignore[method-assign]
        try:
            return task.train_task(*given)
        finally:
            Loop._between_steps = go_on  # type: ignore[method-assign]

    hold.touch()
    told(monkeypatch, way)
    # The workers cannot import the tests.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(cluster, "train_task", train_task)


class Killer(StudyListener):
    """Kills a machine of the cluster once each chunk has sent a checkpoint, and lets the rest go on."""

    def __init__(self, nodes: Any, path: Path, hold: Path) -> None:
        self.nodes, self.path, self.hold, self.killed = nodes, path, hold, False

    def heartbeat(self) -> None:
        saved = {file.parent for file in self.path.glob("checkpoint/*/[0-9]*")}
        if not self.killed and len(saved) == 2:
            self.killed = True
            self.nodes.remove_node(self.nodes.machines.pop(), allow_graceful=False)
            self.hold.unlink()


def test_chunks_of_a_machine_that_dies_are_sent_again(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, given = load("digits"), recipes()
    told_and_held(monkeypatch, plan.Plan(8, 4, 2, 1, "told to", {}, "ray"), tmp_path / "hold")
    sent = []
    spec = cluster.TaskSpec

    def record(*given: Any) -> Any:
        sent.append(spec(*given))
        return sent[-1]

    monkeypatch.setattr(cluster, "TaskSpec", record)
    killer = Killer(nodes, tmp_path / "away", tmp_path / "hold")
    away = train(
        given,
        data,
        out=tmp_path / "away",
        ray=nodes.address,
        checkpoint_every=0.05,
        listener=killer,
    )
    nodes.machines.append(nodes.add_node(num_cpus=1))
    assert killer.killed
    assert len(sent) >= 3, (
        "one of the two chunks was sent again; a slow machine may be taken for dead, too"
    )
    assert any(task.saved for task in sent[2:]), "with a checkpoint to go on from"
    monkeypatch.setattr(planner, "choose_plan", by(4))
    assert_same(away, train(given, data, out=tmp_path / "here"))


def test_a_chunk_whose_workers_keep_dying_is_given_up(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "train_task", lambda *a: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(cluster, "_MOST_LOST_MACHINES", 2)
    told(monkeypatch, plan.Plan(8, 8, 2, 1, "told to", {}, "ray"))
    with pytest.raises(
        RunError, match=r"a machine of the cluster failed .* what was saved is intact"
    ):
        train(recipes(), load("digits"), out=tmp_path / "study", ray=nodes.address)
    monkeypatch.undo()
    assert resume_study(tmp_path / "study", ray=nodes.address).status == "finished"


def test_a_cluster_study_asked_to_stop_saves_and_resumes_here(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, given, path = load("digits"), recipes(), tmp_path / "away"
    told_and_held(monkeypatch, plan.Plan(8, 4, 2, 1, "told to", {}, "ray"), tmp_path / "hold")
    begun, report = set(), StudyScheduler.report

    def heard(self: StudyScheduler, said: Any) -> None:
        if isinstance(said, StepsDone):
            begun.add(said.chunk)
        report(self, said)

    monkeypatch.setattr(StudyScheduler, "report", heard)

    class Impatient(StudyListener):
        def progress(self, done: int) -> None:
            if len(begun) == 2:  # both chunks
                self.progress = lambda done: None  # type: ignore[method-assign]
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="stopped, saved; go on with: danlu resume"):
        train(given, data, out=path, ray=nodes.address, listener=Impatient(), checkpoint_every=1000)
    assert Study(path).status == "interrupted"
    assert len(list(path.glob("checkpoint/*/[0-9]*"))) == 2, "each chunk saved what it had"
    monkeypatch.undo()
    monkeypatch.setattr(planner, "choose_plan", by(4))
    assert_same(resume_study(path, data), train(given, data, out=tmp_path / "here"))


def test_a_mistake_found_by_a_task_is_reported_here(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danlu.__version__", "9.9")
    with pytest.raises(
        RunError,
        match=r"a machine of the cluster has danlu .*, and this one 9.9; install the same on all",
    ):
        train(recipes(), load("digits"), out=tmp_path / "study", ray=nodes.address)
    with pytest.raises(
        RunError, match="`device` is 'cuda', but must be cpu: the cluster has no GPU"
    ):
        train(recipes(), load("digits"), out=tmp_path / "other", ray=nodes.address, device="cuda")
    assert not (tmp_path / "other").exists()


def test_initial_weights_of_this_machine_are_refused_on_a_cluster(
    nodes: Any, tmp_path: Path
) -> None:
    data = load("digits")
    start = fit(BASE.with_(epochs=1), data, out=tmp_path / "start")
    with pytest.raises(
        RunError,
        match=r"`init.weights` is '.*', but must be none on a cluster, which does not have it",
    ):
        train(
            [BASE.with_(init={"weights": str(start.path)})],
            data,
            out=tmp_path / "study",
            ray=nodes.address,
        )
    with pytest.raises(RunError, match=r"`init.weights` is"):
        given = BASE.with_(init={"weights": str(start.path)})
        tune(
            data,
            ["lr=1e-3..1e-2:log"],
            recipe=given,
            trials=2,
            out=tmp_path / "study",
            ray=nodes.address,
        )
    assert not (tmp_path / "study").exists()


def test_halving_works_on_a_cluster(nodes: Any, tmp_path: Path) -> None:
    data, base = load("digits"), BASE.with_(epochs=9)
    found = tune(data, ["lr=1e-5..1e-1:log", "model.hidden=8,16"], recipe=base, trials=18, strategy="halving",
                 out=tmp_path / "t", ray=nodes.address)  # fmt: skip
    epochs = [r["epochs"] for r in found.study.results]
    assert {p["where"] for p in found.study.info["plans"]} == {"ray"}
    assert len(found.study.info["plans"]) == 2, "two structures"
    assert sum(e == 1 for e in epochs) >= 6
    assert epochs[found.ranked[0].member] == 9


class Few:
    """A pruner that stops all once it has heard of more members than one chunk has."""

    def __init__(self) -> None:
        self.heard: set[int] = set()

    def observe(self, rows: Sequence[dict[str, Any]]) -> None:
        self.heard |= {row["member"] for row in rows}

    def prune(self, rows: Sequence[dict[str, Any]]) -> set[int]:
        self.observe(rows)
        return {row["member"] for row in rows} if len(self.heard) > 4 else set()


def test_one_pruner_serves_all_machines(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.cloudpickle.register_pickle_by_value(
        sys.modules[__name__]
    )  # the workers cannot import the tests
    told(monkeypatch, plan.Plan(8, 4, 2, 1, "told to", {}, "ray"))
    data = load("digits")
    empty = create([], data, tmp_path / "study", ray=nodes.address)
    study = extend(empty, recipes(epochs=2000), data, pruner=Few(), ray=nodes.address)
    assert {m.status for m in study.members.values()} == {"stopped"}
    assert max(r["epochs"] for r in study.results) < 2000


QUITTER = """
import os
import signal
from pathlib import Path

from torch import nn


class Quitter(nn.Module):
    passes = 0

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(64, 10)

    def forward(self, x):
        Quitter.passes += 1
        mark = Path(__file__).with_name("asked")
        if Quitter.passes == 40 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGTERM)
        return self.line(x.flatten(1))
"""


def test_a_task_that_another_process_asks_to_stop_is_sent_again(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `ray stop` does on a machine. The network itself sends the signal, once, in a step."""
    (tmp_path / "quitter.py").write_text(QUITTER)
    monkeypatch.chdir(tmp_path)
    told(monkeypatch, plan.Plan(8, 8, 2, 1, "told to", {}, "ray"))
    sent = []
    spec = cluster.TaskSpec

    def record(*given: Any) -> Any:
        sent.append(spec(*given))
        return sent[-1]

    monkeypatch.setattr(cluster, "TaskSpec", record)
    data = load("digits")
    given = [r.with_(model="quitter:Quitter") for r in recipes()]
    away = train(given, data, out=tmp_path / "away", ray=nodes.address)
    assert (tmp_path / "asked").exists()
    assert len(sent) == 2
    assert sent[1].saved, "with what it had saved"
    monkeypatch.setattr(planner, "choose_plan", by(8))
    assert_same(away, train(given, data, out=tmp_path / "here"))


def test_mapped_data_are_read_on_the_cluster(nodes: Any, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    rows = [f"{i % 7},{(i * 13) % 11},{'a' if i % 2 else 'b'}" for i in range(300)]
    table.write_text("\n".join(["x,z,y", *rows]))
    data = load(str(table), target="y", memory="1KB")
    assert data.mapped
    given = [Recipe(seed=s, epochs=2, batch_size=8) for s in range(2)]
    away = train(given, data, out=tmp_path / "away", ray=nodes.address)
    assert away.status == "finished"
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (60, 3))
    mine = load((x, np.arange(60) % 2))
    assert mine.mapped
    with pytest.raises(
        RunError, match="arrays that are mapped from disk cannot be sent to a cluster"
    ):
        train(given, mine, out=tmp_path / "other", ray=nodes.address)
    assert not (tmp_path / "other").exists()


def test_another_cluster_is_refused(nodes: Any, tmp_path: Path) -> None:
    train(recipes()[:1], load("iris"), out=tmp_path / "a", ray=nodes.address)
    with pytest.raises(
        RunError, match=r"this process is connected to another cluster; call ray\.shutdown"
    ):
        train(recipes()[:1], load("iris"), out=tmp_path / "b", ray="10.0.0.1:6379")
    assert not (tmp_path / "b").exists()


def test_compare_works_on_a_cluster(nodes: Any, tmp_path: Path) -> None:
    done = compare(
        load("iris"),
        ["optimizer=sgd,adam"],
        recipe=BASE.with_(epochs=2),
        seeds=3,
        out=tmp_path / "c",
        ray=nodes.address,
    )
    assert done.study.status == "finished"
    assert {p["where"] for p in done.study.info["plans"]} == {"ray"}
