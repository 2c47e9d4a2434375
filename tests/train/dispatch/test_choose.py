"""Plans by what steps cost: counted work, kept speeds, equal choices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from danlu import Data, Recipe, compare, load, tune
from danlu.train.batches import BatchStream
from danlu.train.dispatch import choose
from danlu.train.dispatch import speeds as speeds_module
from danlu.train.dispatch.choose import Resources, StepCosts, Way, _fastest, choose_plan
from danlu.train.dispatch.chunk import population_maker
from danlu.train.dispatch.operations import CHAIN, SINGLE, VMAP, StepWork, Work, _count
from danlu.train.dispatch.speeds import _TYPICAL, Speeds, speeds

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Data:
    return load("digits")


def group(data: Data, n: int, **fields: object) -> tuple[list[Recipe], BatchStream, object]:
    base = Recipe(batch_size=32, **fields)
    recipes = [base.with_(seed=seed, data_seed=0) for seed in range(n)]
    batches = BatchStream(recipes, data, CPU)
    return recipes, batches, population_maker(data, batches, CPU)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"model": {"name": "dense", "hidden": (8, 8)}}, CHAIN),
        ({"model": {"name": "dense", "batch_norm": "after", "dropout": 0.2}}, CHAIN),
        ({"model": {"name": "dense", "hidden": (8,)}, "loss": "cross-entropy-explicit"}, VMAP),
    ],
    ids=["chain", "with everything", "vmap"],
)
def test_work_is_counted_and_follows_a_line(
    data: Data, fields: dict[str, object], kind: str
) -> None:
    """The work of 2 and 4 networks tells that of 12, which is counted here as well."""
    recipes, batches, make = group(data, 12, **fields)
    work = StepWork(recipes, make, batches, vectorizable=True)
    told, told_kind = work.of(12)
    counted, counted_kind = _count(recipes, make, batches)
    assert told_kind == counted_kind == kind
    assert told.multiply_adds == pytest.approx(counted.multiply_adds)
    assert told.products == pytest.approx(counted.products)
    assert told.bytes_moved == pytest.approx(counted.bytes_moved, rel=0.3)
    assert told.calls == pytest.approx(counted.calls, rel=0.3)
    alone, kind_alone = work.of(1)
    assert kind_alone in (CHAIN, SINGLE)
    assert alone == _count(recipes[:1], make, batches)[0]  # the same each time


def test_the_products_of_a_dense_layer_are_its_multiply_adds(data: Data) -> None:
    """64–7–10 with batches of 32: forward, by weights, and by inputs but for the first layer."""
    recipes, batches, make = group(data, 1, model={"name": "dense", "hidden": (7,)})
    work, _ = _count(recipes, make, batches)
    assert work.multiply_adds == 32 * (2 * 64 * 7 + 3 * 7 * 10)


def test_speeds_are_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def measured(device: torch.device, threads: int) -> Speeds:
        made.append(threads)
        return Speeds({CHAIN: 1e-6, VMAP: 2e-6, SINGLE: 3e-6}, 1e-7, 1e-11, dict(_TYPICAL.byte))

    monkeypatch.setattr(speeds_module, "measure", measured)
    assert speeds(CPU, 1) == speeds(CPU, 1)
    assert speeds(CPU, 2).call[VMAP] == 2e-6
    assert made == [1, 2]
    (file,) = (tmp_path / "danlu" / "speeds").glob("*.json")
    file.write_text("{ spoilt")
    assert speeds(CPU, 1).call[CHAIN] == 1e-6  # measured anew
    assert made == [1, 2, 1]


def test_where_nothing_can_be_kept_typical_speeds_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert speeds(CPU, 1) == _TYPICAL


def test_a_real_measurement_is_of_a_machine() -> None:
    found = speeds_module.measure(CPU, 1)
    assert 1e-7 < found.call[CHAIN] < 1e-2
    assert 1e-13 < found.multiply_add < 1e-8
    few = found.seconds(Work(10, 2, 1e6, 1e6), CHAIN, 1e6)
    assert found.seconds(Work(10, 2, 2e6, 1e6), CHAIN, 1e6) > few
    assert found.seconds_per_byte(2**30) == found.byte["64"]


def test_tiny_networks_train_many_at_once_and_large_ones_side_by_side(data: Data) -> None:
    resources = Resources(cores=2, processes=True)
    tiny, _, make = group(data, 32, model={"name": "dense", "hidden": (8,)}, epochs=300)
    plan = choose_plan(tiny, make, data, CPU, resources)
    assert plan.population_size >= 16
    wide, _, make = group(data, 6, model={"name": "dense", "hidden": (512, 512)}, epochs=60)
    assert choose_plan(wide, make, data, CPU, resources).population_size <= 4
    assert choose_plan(tiny, make, data, CPU, resources) == plan


def test_costs_are_shared_evenly_and_empty_slots_count(data: Data) -> None:
    recipes, _, make = group(data, 9, model={"name": "dense", "hidden": (8,)}, epochs=300)
    costs = StepCosts(recipes, make, data, CPU)
    assert costs.seconds(Way(4, 2, 1)) == pytest.approx(costs.seconds(Way(4, 1, 1)) / 2)
    plan = _fastest(costs, 9, 9, Resources(cores=2, processes=True))
    assert plan.population_size * plan.workers >= 9
    assert set(plan.seconds_per_step) >= {"one by one, 1 thread"}


def test_equal_commands_end_in_equal_bits(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of comparisons and of searches that halve: winners did depend on the machine's mood."""
    monkeypatch.setattr(choose, "_TOO_SHORT", 0.0)
    base = Recipe(model={"name": "dense", "hidden": (8,)}, epochs=3, batch_size=64)
    found = [
        tune(
            data,
            ["lr=1e-4..1:log"],
            recipe=base,
            trials=9,
            strategy="halving",
            out=tmp_path / f"t{k}",
        )
        for k in range(2)
    ]
    assert found[0].winner["values"] == found[1].winner["values"]
    assert [t.figure for t in found[0].ranked] == [t.figure for t in found[1].ranked]
    compared = [
        compare(data, {"optimizer": ["sgd", "adam"]}, recipe=base, seeds=2, out=tmp_path / f"c{k}")
        for k in range(2)
    ]
    assert compared[0].figures == compared[1].figures
    for i in range(4):
        ours, theirs = (c.study.weights(i) for c in compared)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    (plan,) = [p for p in compared[0].study.info["plans"] if p["group"] == 0]
    assert "by their costs on this machine" in plan["reason"]
