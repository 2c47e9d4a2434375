"""Who trains where: every way gives the same; memory that runs out costs no network."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import change_facts, keep_members
from populations import equal_alone, members

from danlu import Data, Recipe, memory
from danlu.train import resume_study, train
from danlu.train.dispatch import chunk as chunk_module
from danlu.train.dispatch import plan, planner, scheduler, workers
from danlu.train.engine.population import Population


@pytest.mark.parametrize(("way", "workers"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_every_plan_gives_the_same_numbers(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: int, workers: int
) -> None:
    recipes = members("cnn", "adam", "dropout")
    monkeypatch.setattr(
        planner, "choose_plan", lambda *a, **k: plan.Plan(6, way, workers, 1, "told to")
    )
    study = train(recipes, pictures, out=tmp_path / "study")
    equal_alone(study, recipes, pictures, tmp_path)


@pytest.fixture
def two_cores() -> Iterator[None]:
    """Elsewhere tests train on one."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def memory_for(monkeypatch: pytest.MonkeyPatch, suffices: Callable[[Population], bool]) -> None:
    """Memory runs out in the steps of all other populations."""
    step = Population.step

    def tight(self: Population, *a: Any) -> Any:
        if not suffices(self):
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"
            )
        return step(self, *a)

    monkeypatch.setattr(Population, "step", tight)


def test_memory_that_runs_out_halves_the_chunk(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(monkeypatch, lambda p: not (p.members > 2))
    recipes = members("dense", "adam", "dropout")
    study = train(recipes, pictures, out=tmp_path / "study")
    assert [(p["population_size"], p["reason"]) for p in study.info["plans"]] == [
        (2, "memory ran out with more at once")
    ]
    equal_alone(study, recipes, pictures, tmp_path)


@pytest.mark.parametrize("ran_out", [False, True])
def test_a_worker_that_is_killed_begins_again_as_it_was(
    ran_out: bool, pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed from outside, its chunk is the same; smaller only where the system was out of it."""
    step, here, kills = Population.step, os.getpid(), multiprocessing.Value("i", 0)

    def unlucky(self: Population, *a: Any) -> Any:
        if self.members > 1 and os.getpid() != here and not kills.value:
            kills.value += 1
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *a)

    monkeypatch.setattr(planner, "choose_plan", lambda *a, **k: plan.Plan(5, 3, 2, 1, "told to"))
    monkeypatch.setattr(workers, "processes_killed", lambda: kills.value if ran_out else 0)
    recipes = [recipe.with_(dtype="float32") for recipe in members("dense", "adam", "dropout")]
    undisturbed = train(recipes, pictures, out=tmp_path / "undisturbed")
    monkeypatch.setattr(Population, "step", unlucky)
    study = train(recipes, pictures, out=tmp_path / "study")
    assert kills.value == 1
    if ran_out:
        assert [p["population_size"] for p in study.info["plans"]] == [1]
        return
    assert study.info["plans"] == undisturbed.info["plans"]
    for i in range(len(recipes)):
        ours, theirs = study.weights(i), undisturbed.weights(i)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_worker_killed_again_and_again_counts_as_out_of_memory(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, here = Population.step, os.getpid()

    def greedy(self: Population, *a: Any) -> Any:
        if self.members > 1 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *a)

    monkeypatch.setattr(Population, "step", greedy)
    monkeypatch.setattr(planner, "choose_plan", lambda *a, **k: plan.Plan(5, 3, 2, 1, "told to"))
    recipes = members("dense", "adam", "plain")
    study = train(recipes, pictures, out=tmp_path / "study")
    assert [(p["population_size"], p["is_surprising"]) for p in study.info["plans"]] == [(1, True)]
    equal_alone(study, recipes, pictures, tmp_path)


@pytest.mark.usefixtures("two_cores")
def test_many_structures_train_side_by_side_and_one_that_is_too_large_is_cut_alone(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, side, here = scheduler.run_workers, [], os.getpid()

    def suffices(p: Population) -> bool:
        return p.members == 1 or p.model[1].out_features != 30 or os.getpid() == here

    memory_for(monkeypatch, suffices)
    monkeypatch.setattr(
        scheduler, "run_workers", lambda jobs, n, stop: side.append(n) or run(jobs, n, stop)
    )
    base = Recipe(batch_size=13, dtype="float64", epochs=2)
    recipes = [
        base.with_(seed=s, model={"hidden": [h]}) for h in (10, 20, 30, 40) for s in range(2)
    ]
    study = train(recipes, pictures, out=tmp_path / "study")
    assert [(p["group"], p["population_size"], p["workers"]) for p in sorted(study.info["plans"], key=lambda p: p["group"])] == [
        (0, 2, 2), (1, 2, 2), (2, 1, 2), (3, 2, 2)
    ]  # fmt: skip
    assert side == [2, 2], "all at once, then what memory was too small for"
    equal_alone(study, recipes, pictures, tmp_path)


@pytest.mark.usefixtures("two_cores")
def test_where_memory_holds_one_worker_groups_train_in_turn(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a resume: that there is no room for two is kept in the plans."""
    here = os.getpid()
    memory_for(monkeypatch, lambda p: not (os.getpid() != here and p.model[1].out_features >= 30))
    recipes = [
        Recipe(batch_size=13, dtype="float64", epochs=2, model={"hidden": [h]})
        for h in (10, 20, 30, 40)
    ]
    study = train(recipes, pictures, out=tmp_path / "study")
    assert sum(p["exclusive"] for p in study.info["plans"]) >= 1
    keep_members(study.path, only={0})
    change_facts(study.path, status="interrupted")
    study = resume_study(study.path, pictures)
    equal_alone(study, recipes, pictures, tmp_path)


@pytest.mark.usefixtures("two_cores")
def test_a_resumed_study_keeps_its_thread_count(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = [
        Recipe(batch_size=13, dtype="float64", epochs=2, model={"hidden": [h]})
        for h in range(10, 18)
    ]
    study = train(recipes, pictures, out=tmp_path / "study")
    plans = [
        {**p, "workers": 1, "threads": 2 if p["group"] == 3 else 1} for p in study.info["plans"]
    ]
    change_facts(study.path, status="interrupted", plans=plans)
    study.path.joinpath("members.jsonl").write_text("")
    used, compute_threads = [], chunk_module.compute_threads
    monkeypatch.setattr(
        chunk_module, "compute_threads", lambda n: used.append(n) or compute_threads(n)
    )
    resume_study(study.path, pictures)
    assert used == [2], "here, and the others side by side on one thread each"


def test_chunks_of_other_members_have_other_names() -> None:
    assert chunk_module.chunk_name([0, 1, 2]) != chunk_module.chunk_name([0, 2, 3])


def test_a_container_s_memory_limit_is_respected(tmp_path: Path) -> None:
    assert memory._limits(tmp_path) == []
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._limits(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._limits(tmp_path) == [1000]
    assert memory.total_memory() > 1e8
    assert 1e7 < memory.free_memory() <= memory.total_memory()
