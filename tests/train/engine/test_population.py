"""A member of a population equals its recipe trained alone: in float64, over models, optimisers and techniques."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from populations import (
    MODEL_TECHNIQUES,
    SMALL,
    TECHNIQUES,
    ZOO,
    close,
    equal_alone,
    equals,
    members,
    narrow,
)

from danlu import Data, Recipe, fit, load
from danlu.models import MODELS
from danlu.optim.optimizers import OPTIMIZERS
from danlu.train import train
from danlu.train.dispatch import plan, planner
from danlu.train.engine.population import Population

EVERYWHERE = (
    "plain",
    "penalties",
    "clipping",
    "smoothing",
    "augmentation",
    "early stopping",
)  # on every model with sgd and adam, and with every optimiser on some model


CASES = dict.fromkeys([
    *[(m, o, t) for m in sorted(SMALL) for o in ("sgd", "adam") for t in EVERYWHERE],
    *[(m, o, "plain") for m in sorted(SMALL) for o in sorted(OPTIMIZERS)],
    *[(m, "momentum", t) for m in sorted(SMALL) for t in TECHNIQUES if t not in EVERYWHERE],
    *[(m, "momentum", "smoothing") for m in ZOO],
    ("vgg-narrow", "adam", "norm-after"),
    ("vgg11", "sgd", "dropout"),
    ("resnet18", "adam", "ema"),
    ("googlenet", "adam", "accumulation"),
    *[("dense", o, t) for o in sorted(OPTIMIZERS) for t in ("decay", "schedules")],
    *[(m, "adam", t) for m in sorted(SMALL) for t, f in MODEL_TECHNIQUES.items()
      if set(f[0]) <= set(MODELS[m].defaults)],
])  # fmt: skip


def more_cases() -> list[tuple[str, str, str]]:
    """Return every optimiser with those techniques and the models' own, each on one model that takes it."""
    cases = []
    for i, optimizer in enumerate(sorted(OPTIMIZERS)):
        for j, technique in enumerate((*EVERYWHERE, *MODEL_TECHNIQUES)):
            (fields, *_) = MODEL_TECHNIQUES.get(technique, [{}])
            able = [m for m in sorted(SMALL) if fields.keys() <= MODELS[m].defaults.keys()]
            cases.append((able[(i + j) % len(able)], optimizer, technique))
    return cases


EVERY_CASE = [
    *CASES,
    *(pytest.param(*case, marks=pytest.mark.slow) for case in more_cases() if case not in CASES),
]


@pytest.mark.parametrize(("model", "optimizer", "technique"), EVERY_CASE)
def test_a_member_equals_its_recipe_alone(
    pictures: Data,
    tmp_path: Path,
    model: str,
    optimizer: str,
    technique: str,
) -> None:
    recipes = members(model, optimizer, technique)
    if model in ZOO:  # they take long; two of these three share their batches
        recipes = [recipes[i] for i in (1, 2, 4)]
    study = train(recipes, pictures, out=tmp_path / "study")
    sizes = [p["population_size"] for p in study.info["plans"]]
    assert sizes == [len(recipes)], "all were to train together"
    equal_alone(study, recipes, pictures, tmp_path)


@pytest.mark.parametrize("model", ["dense", "vgg-narrow", "resnet18", "googlenet"])
def test_a_bfloat16_member_is_near_its_recipe_alone(
    pictures: Data, tmp_path: Path, model: str
) -> None:
    """Vectorised, with seeds of their own, and each near what it is alone: bfloat16 has eight bits."""
    rule = {"name": "sgd", "lr": 1e-3}
    recipes = [
        Recipe(
            model=narrow(model), optimizer=rule, batch_size=20, epochs=1, dtype="bf16-mixed", seed=k
        )
        for k in range(3)
    ]
    study = train(recipes, pictures, out=tmp_path / "study")
    assert [p["population_size"] for p in study.info["plans"]] == [3], study.info["plans"]
    for i, recipe in enumerate(recipes):
        alone = fit(recipe, pictures, out=tmp_path / str(i))
        assert study.results[i]["train_loss"] == pytest.approx(alone.result["train_loss"], rel=0.03)


@pytest.mark.parametrize(
    "init",
    [
        {"frozen": True, "prefix": ("conv1", "bn1", "layer1")},
        {"lr_factor": 0.1, "prefix": ("layer",)},
    ],
)
def test_members_with_initial_weights_equal_their_recipes_alone(
    pictures: Data, tmp_path: Path, init: dict[str, Any]
) -> None:
    """From weights of their own, some of them held or slowed: each as alone."""
    base = Recipe(
        model=narrow("resnet18"),
        optimizer={"name": "momentum", "lr": 1e-3},
        batch_size=20,
        epochs=1,
        dtype="float64",
    )
    starts = [fit(base.with_(seed=9 + k), pictures, out=tmp_path / f"start{k}") for k in range(2)]
    recipes = [
        base.with_(
            seed=k,
            init={"weights": str(starts[k % 2].path), **init},
            optimizer={"name": "momentum", "lr": 1e-3 * (k + 1)},
        )
        for k in range(3)
    ]
    study = train(recipes, pictures, out=tmp_path / "study")
    assert [p["population_size"] for p in study.info["plans"]] == [3]
    equal_alone(study, recipes, pictures, tmp_path)


def test_each_member_keeps_its_own_best_weights(pictures: Data, tmp_path: Path) -> None:
    """Against the validation loss of the epoch that was best, not against another training by the same code."""
    base = Recipe(
        batch_size=13,
        epochs=8,
        optimizer={"name": "adam", "lr": 0.01},
        model={"name": "dense", "batch_norm": "after"},
    )
    recipes = [
        base.with_(seed=s, **{"early_stopping.patience": p})
        for s, p in ((0, 1), (1, 2), (2, 3), (3, 0), (4, 8))
    ]
    study = train(recipes, pictures, out=tmp_path / "study")
    earlier = 0
    for i, recipe in enumerate(recipes):
        losses = [row["valid_loss"] for row in study.history(i)]
        best = min(losses) if recipe.early_stopping.patience else losses[-1]
        earlier += best != losses[-1]
        assert study.results[i]["valid_loss"] == pytest.approx(best, rel=1e-5)
        assert study.run(i, pictures).evaluate(pictures, "valid").loss == pytest.approx(
            best, rel=1e-5
        )
    assert earlier >= 2, "some must have been better before they stopped"


COMPANY = [("dense", "dropout"), ("cnn", "norm-after"), ("dense", "early stopping"), ("dense", "phm"),
           ("cnn", "augmentation"), ("dense", "sample"), ("dense", "epochs"), ("dense", "normalisation")]  # fmt: skip


@pytest.mark.parametrize(("model", "technique"), COMPANY)
def test_a_member_does_not_depend_on_the_others_or_their_order(
    pictures: Data, tmp_path: Path, model: str, technique: str
) -> None:
    recipes = members(model, "adam", technique)
    whole = train(recipes, pictures, out=tmp_path / "whole")
    for name, order in {
        "fewer": [3, 1],
        "reversed": [4, 3, 2, 1, 0],
        "twice": [0, 0, 2, 2, 4, 1],
    }.items():
        other = train([recipes[i] for i in order], pictures, out=tmp_path / name)
        for k, i in enumerate(order):
            close(other.weights(k), whole.weights(i), 1e-10)


REFILLED = [
    ("dense", "adam", {"model": {"dropout": 0.3}}),
    (
        "dense",
        "adam",
        {
            "schedule": {"name": "cosine", "warmup": 0.5},
            "penalty": {"l2": 0.5},
            "clip": {"norm": 0.5},
        },
    ),
    (
        "dense",
        "adam",
        {"model": {"hidden": [8]}},
    ),  # so small that the rule's formula is used, not the fused kernel
    ("dense", "nesterov", {"early_stopping": {"patience": 1}, "augment": {"noise": 0.1}}),
    ("dense", "adamw", {"sample": {"bootstrap": True}, "optimizer": {"weight_decay": 0.1}}),
    (
        "cnn",
        "rmsprop",
        {"model": {"batch_norm": "after", "dropout": 0.2}, "early_stopping": {"patience": 1}},
    ),
    (
        "dense",
        "adam",
        {"model": {"phm_n": 2, "dropout": 0.3}, "augment": {"rotate": 9.0}},
    ),  # by vmap
]


@pytest.mark.parametrize(("model", "optimizer", "fields"), REFILLED)
def test_freed_places_are_refilled_from_the_queue(
    pictures: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    optimizer: str,
    fields: dict[str, Any],
) -> None:
    """Networks that are differently far train together, and each is still what its recipe gives alone."""
    monkeypatch.setattr(planner, "choose_plan", lambda *a, **k: plan.Plan(7, 3, 1, 1, "told to"))
    sizes = []
    step = Population.step
    monkeypatch.setattr(
        Population,
        "step",
        lambda self, *a: (
            sizes.append((self.members, len(set(self.networks.start_steps)))) or step(self, *a)
        ),
    )
    base = Recipe(model=model, optimizer=optimizer, batch_size=13, dtype="float64", data_seed=1)
    epochs, seeds = (3, 1, 4, 2, 5, 2, 3), (0, 1, 2, 3, 0, 1, 2)
    recipes = [
        base.with_(
            **{f"{s}.{k}": v for s, section in fields.items() for k, v in section.items()},
            epochs=e,
            seed=s,
            data_seed=d,
        ).with_(**{"optimizer.lr": base.optimizer.lr * (1 + i / 7)})
        for i, (e, s, d) in enumerate(zip(epochs, seeds, (0, 0, 0, 1, 0, 0, 1), strict=True))
    ]
    study = train(recipes, pictures, out=tmp_path / "study")
    assert max(sizes) == (3, 3), "three places, three different beginnings at some time"
    assert len(list((study.path / "weights").iterdir())) == 1
    equal_alone(study, recipes, pictures, tmp_path)


def test_members_of_several_structures_keep_their_numbers(pictures: Data, tmp_path: Path) -> None:
    recipes = [
        r
        for pair in zip(
            members("dense", "adam", "plain"), members("cnn", "sgd", "plain"), strict=True
        )
        for r in pair
    ]
    study = train(recipes, pictures, out=tmp_path / "study")
    assert len(study.info["plans"]) == 2
    for i in (0, 1, 9):
        equals(study, i, recipes[i], pictures, tmp_path / f"alone{i}")


def wild(seed: int, lr: float = 0.01, section: Any = None, rule: str = "momentum") -> Recipe:
    return Recipe(
        seed=seed,
        model=section or {},
        optimizer={"name": rule, "lr": lr},
        epochs=4,
        batch_size=16,
        data_seed=1,
    )


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ({}, "momentum"),
        ({}, "adam"),
        ({"batch_norm": "after"}, "adam"),
        ({"phm_n": 2, "dropout": 0.2}, "momentum"),
    ],
    ids=["chain", "fused", "statistics", "vmap"],
)
def test_a_network_that_diverges_leaves_every_other_bit_as_it_was(
    pictures: Data, tmp_path: Path, section: dict[str, Any], rule: str
) -> None:
    def members(second: float) -> list[Recipe]:
        return [wild(s, second if s == 1 else 0.01, section, rule) for s in range(4)]

    calm, recipes = train(members(0.01), pictures, out=tmp_path / "calm"), members(1e30)
    study = train(recipes, pictures, out=tmp_path / "wild")
    assert [study.members[i].status for i in range(4)] == [
        "finished",
        "diverged",
        "finished",
        "finished",
    ]
    one_lr = train(members(0.02), pictures, out=tmp_path / "one")
    for i in (0, 2, 3):
        a, b = (
            study.weights(i),
            one_lr.weights(i),
        )  # the same operations, but for the numbers of member 1
        assert all(torch.equal(a[k], b[k]) for k in a)
        close(a, calm.weights(i), 1e-4)
    told = study.members[1]
    run = study.run(1)
    assert run.status == "diverged"
    assert "the loss became NaN or infinite at step" in told.error
    with pytest.raises(Exception, match="NaN") as alone:
        fit(recipes[1], pictures, out=tmp_path / "alone")
    assert str(alone.value) == told.error
    assert told.layer in {"loss", *(name for name, _ in run.build().named_modules())}
    if not section:
        assert all(bool(torch.isfinite(v).all()) for v in study.weights(1).values()), (
            "those from before the step that broke"
        )


def test_a_study_ends_when_all_members_diverge(pictures: Data, tmp_path: Path) -> None:
    study = train([wild(s, 1e30) for s in range(3)], pictures, out=tmp_path / "study")
    assert study.status == "finished"
    assert {m.status for m in study.members.values()} == {"diverged"}
    assert study.results == [{}, {}, {}]


def test_members_that_stop_early_leave_the_population(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    step = Population.step
    monkeypatch.setattr(
        Population, "step", lambda self, *a: sizes.append(self.members) or step(self, *a)
    )
    recipes = [wild(s).with_(epochs=e) for s, e in enumerate((1, 3, 2, 4))]
    train(recipes, pictures, out=tmp_path / "study")
    per_epoch = -(-pictures.size("train") // 16)
    assert sizes[-4 * per_epoch :: per_epoch] == [4, 3, 2, 1]


@pytest.mark.parametrize("room", [2, 3])
@pytest.mark.parametrize("dropout", [(0.5, 0.1, 0.0), (0.0, 0.2, 0.5), (0.2, 0.0, 0.5)])
@pytest.mark.parametrize("section", [{"phm_n": 2}, {}], ids=["vmap", "chain"])
def test_a_member_s_dropout_is_its_own_when_others_leave_and_join(
    pictures: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    section: dict[str, Any],
    dropout: tuple[float, ...],
    room: int,
) -> None:
    monkeypatch.setattr(planner, "choose_plan", lambda *a, **k: plan.Plan(3, room, 1, 1, "told to"))
    models = [{"name": "dense", "dropout": p, **section} for p in dropout]
    recipes = [
        Recipe(model=m, dtype="float64", batch_size=13, epochs=e)
        for m, e in zip(models, (1, 3, 2), strict=True)
    ]
    study = train(recipes, pictures, out=tmp_path / "study")
    equal_alone(study, recipes, pictures, tmp_path)


def test_a_regression_member_equals_its_recipe_alone(tmp_path: Path) -> None:
    data = load("diabetes")
    recipes = [
        Recipe(
            model={"name": "dense", "hidden": [8]},
            dtype="float64",
            epochs=3,
            seed=s,
            optimizer={"lr": 0.01 * (s + 1)},
        )
        for s in range(3)
    ]
    study = train(recipes, data, out=tmp_path / "study")
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, data, tmp_path / f"alone{i}")
