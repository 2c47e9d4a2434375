"""A member of a population equals its recipe trained alone: in float64, over every model × optimiser × technique."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from danlu import Data, Recipe, fit, load
from danlu.errors import ModelError
from danlu.models import MODELS
from danlu.optim.rules import RULES
from danlu.optim.schedules import SCHEDULES
from danlu.runs import Study
from danlu.streams import stream
from danlu.train import StudyListener, plan, record, resume_study, train, workers
from danlu.train import chunk as train_module
from danlu.train.population import Population


@pytest.fixture(scope="module")
def pictures() -> Data:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.integers(0, 160, (120, 1, 16, 16)) + 20 * y[:, None, None, None]
    return load((x.astype(np.uint8), y))


WARMUPS = (0.0, 0.5, 0, 1.0, 0.0)
# What each technique gives to five members; None leaves a member as it is.
TECHNIQUES: dict[str, list[dict[str, Any]]] = {
    "plain": [{}] * 5,
    "penalties": [{"penalty": p} for p in ({"l1": 0.5}, {"l2": 0.5}, {"l1": 0.1, "l2": 2.0}, {}, {"l1": 0.3, "eps": 1e-4})],
    "clipping": [{"clip": c} for c in ({"norm": 0.5}, {"value": 0.01}, {"norm": 0.1, "value": 0.1}, {}, {"norm": 1e6})],
    "smoothing": [{"loss": {"label_smoothing": e}} for e in (0.0, 0.1, 0.3, 0.05, 0.0)],
    "balanced": [{"loss": {"label_smoothing": e, "class_weights": "balanced"}} for e in (0.0, 0.1, 0.0, 0.2, 0.0)],
    "explicit": [{"loss": {"name": "cross-entropy-explicit", "label_smoothing": e}} for e in (0.0, 0.1, 0.0, 0.2, 0.0)],
    "decay": [{"decay": d} for d in (0.0, 0.3, 0.1, 1.0, 0.0)],
    "augmentation": [{"augment": a} for a in ({}, {"rotate": 9.0}, {"crop": 1, "flip": True}, {"noise": 0.1}, {"rotate": 9.0})],
    "normalisation": [{"normalize": n} for n in ("zscore", "minmax", "zscore", "none", "whiten")],
    "sample": [{"sample": s} for s in ({"share": 0.4}, {"bootstrap": True}, {"folds": 3, "fold": 1},
                                       {"share": 0.5, "bootstrap": True, "seed": 4}, {"folds": 5, "fold": 4, "seed": 1})],
    "init": [{"init": i} for i in ("auto", {"name": "normal", "std": 0.05}, {"name": "normal", "std": 0.2}, "orthogonal", "he")],
    "early stopping": [{"early_stopping": {"patience": p}, "epochs": 6} for p in (0, 1, 2, 1, 3)],
    "epochs": [{"epochs": e} for e in (1, 3, 2, 4, 2)],
    "schedules": [{"schedule": {"name": s, "warmup": w}, "epochs": 3} for s, w in zip(SCHEDULES, WARMUPS, strict=False)],
}  # fmt: skip
MODEL_TECHNIQUES: dict[str, list[dict[str, Any]]] = {
    "dropout": [{"dropout": p} for p in (0.0, 0.2, 0.5, 0.2, 0.7)],
    "norm-before": [{"batch_norm": "before"}] * 5,
    "norm-after": [{"batch_norm": "after", "dropout": p} for p in (0.0, 0.2, 0.5, 0.0, 0.7)],
    "factor": [{"factor": 2, "dropout": p} for p in (0.0, 0.2, 0.5, 0.0, 0.7)],
}
SEEDS = [{"seed": 0}, {"seed": 1}, {"seed": 0, "data_seed": 5}, {"seed": 2}, {"seed": 3, "data_seed": 5}]


def members(model: str, optimizer: str, technique: str) -> list[Recipe]:
    """Five recipes of one structure that differ in every number they can."""
    out = []
    for i, seeds in enumerate(SEEDS):
        section: dict[str, Any] = {"name": model}
        if "kernel_size" in MODELS[model].defaults:
            section["kernel_size"] = 3 if model == "cnn-wide" else 5  # 3: odd sides, which only autograd can pool
        fields = dict(TECHNIQUES[technique][i]) if technique in TECHNIQUES else {}
        section |= MODEL_TECHNIQUES[technique][i] if technique in MODEL_TECHNIQUES else {}
        rule: dict[str, Any] = {"name": optimizer, "weight_decay": fields.pop("decay", 0.0)}
        for name, value in RULES[optimizer].defaults.items():
            if name == "lr":
                # Half the units dropped and a large rate make rounding grow a hundredfold in an epoch.
                calm = 0.1 if optimizer == "sgd" and technique in MODEL_TECHNIQUES else 1.0
                rule["lr"] = calm * value * (1, 0.5, 2, 0.1, 1)[i]
            elif name == "eps":
                rule["eps"] = value * (1, 100, 1, 10, 1)[i]
            elif name != "weight_decay":
                rule[name] = 1 - (1 - value) * (1, 2, 1, 3, 0.5)[i]
        out.append(
            Recipe(**{"model": section, "optimizer": rule, "batch_size": 13, "epochs": 2, "dtype": "float64", **seeds, **fields})
        )
    return out


EVERYWHERE = ("plain", "penalties", "clipping", "smoothing", "augmentation", "early stopping")  # on every model and rule
CASES = dict.fromkeys([
    *[(m, o, t) for m in sorted(MODELS) for o in sorted(RULES) for t in EVERYWHERE],
    *[(m, "momentum", t) for m in sorted(MODELS) for t in TECHNIQUES if t not in EVERYWHERE],
    *[("dense", o, t) for o in sorted(RULES) for t in ("decay", "schedules")],
    *[(m, o, t) for m in sorted(MODELS) for o in sorted(RULES) for t, f in MODEL_TECHNIQUES.items()
      if set(f[0]) <= set(MODELS[m].defaults)],
])  # fmt: skip


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 1e-7) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def equals(study: Study, i: int, recipe: Recipe, data: Data, path: Path) -> None:
    """Member i of the study against the recipe trained alone: weights, curve, final figures."""
    alone = fit(recipe, data, out=path)
    close(study.weights(i), alone.model().state_dict())
    own, theirs = study.history(i), alone.history
    assert len(own) == len(theirs)
    for a, b in zip(own, theirs, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in b.items() if k != "seconds"}, rel=1e-6, abs=1e-8
        )
    a, b = study.results[i], alone.result
    assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
        {k: v for k, v in b.items() if k != "seconds"}, rel=1e-6, abs=1e-8
    )


@pytest.mark.parametrize(("model", "optimizer", "technique"), CASES)
def test_a_member_equals_its_recipe_alone(pictures: Data, tmp_path: Path, model: str, optimizer: str, technique: str) -> None:
    recipes = members(model, optimizer, technique)
    study = train(recipes, pictures, out=tmp_path / "study")
    assert [p["chunk"] for p in study.info["plans"]] == [5], "all were to train together"
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, pictures, tmp_path / f"alone{i}")


def test_each_keeps_the_best_weights_of_its_own(pictures: Data, tmp_path: Path) -> None:
    """Against the validation loss of the epoch that was best, not against another training by the same code."""
    base = Recipe(batch_size=13, epochs=8, optimizer={"name": "adam", "lr": 0.01}, model={"name": "dense", "batch_norm": "after"})
    recipes = [base.with_(seed=s, **{"early_stopping.patience": p}) for s, p in ((0, 1), (1, 2), (2, 3), (3, 0), (4, 8))]
    study = train(recipes, pictures, out=tmp_path / "study")
    earlier = 0
    for i, recipe in enumerate(recipes):
        losses = [row["valid_loss"] for row in study.history(i)]
        best = min(losses) if recipe.early_stopping.patience else losses[-1]
        earlier += best != losses[-1]
        assert study.results[i]["valid_loss"] == pytest.approx(best, rel=1e-5)
        assert study.run(i, pictures).evaluate(pictures, "valid").loss == pytest.approx(best, rel=1e-5)
    assert earlier >= 2, "some must have been better before they stopped"


COMPANY = [("dense", "dropout"), ("cnn", "norm-after"), ("dense", "early stopping"), ("dense", "factor"),
           ("cnn", "augmentation"), ("dense", "sample"), ("dense", "epochs"), ("dense", "normalisation")]  # fmt: skip


@pytest.mark.parametrize(("model", "technique"), COMPANY)
def test_company_changes_nothing(pictures: Data, tmp_path: Path, model: str, technique: str) -> None:
    recipes = members(model, "adam", technique)
    whole = train(recipes, pictures, out=tmp_path / "whole")
    for name, order in {"fewer": [3, 1], "reversed": [4, 3, 2, 1, 0], "twice": [0, 0, 2, 2, 4, 1]}.items():
        other = train([recipes[i] for i in order], pictures, out=tmp_path / name)
        for k, i in enumerate(order):
            close(other.weights(k), whole.weights(i), 1e-10)


REFILLED = [
    ("dense", "adam", {"model": {"dropout": 0.3}}),
    ("dense", "adam", {"schedule": {"name": "cosine", "warmup": 0.5}, "penalty": {"l2": 0.5}, "clip": {"norm": 0.5}}),
    ("dense", "adam", {"model": {"hidden": [8]}}),  # so small that the rule's formula is used, not the fused kernel
    ("dense", "nesterov", {"early_stopping": {"patience": 1}, "augment": {"noise": 0.1}}),
    ("dense", "adamw", {"sample": {"bootstrap": True}, "optimizer": {"weight_decay": 0.1}}),
    ("cnn", "rmsprop", {"model": {"batch_norm": "after", "dropout": 0.2}, "early_stopping": {"patience": 1}}),
    ("dense", "adam", {"model": {"factor": 2, "dropout": 0.3}, "augment": {"rotate": 9.0}}),  # by vmap
]


@pytest.mark.parametrize(("model", "optimizer", "fields"), REFILLED)
def test_places_that_get_free_are_given_to_those_who_wait(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, optimizer: str, fields: dict[str, Any]
) -> None:
    """Networks that are differently far train together, and each is still what its recipe gives alone."""
    monkeypatch.setattr(plan, "choose", lambda *a, **k: plan.Plan(7, 3, 1, 1, "told to"))
    sizes = []
    step = Population.step
    monkeypatch.setattr(Population, "step", lambda self, *a: sizes.append((self.members, len(set(self.late)))) or step(self, *a))
    base = Recipe(model=model, optimizer=optimizer, batch_size=13, dtype="float64", data_seed=1)
    epochs, seeds = (3, 1, 4, 2, 5, 2, 3), (0, 1, 2, 3, 0, 1, 2)
    recipes = [
        base.with_(
            **{f"{s}.{k}": v for s, section in fields.items() for k, v in section.items()}, epochs=e, seed=s, data_seed=d
        ).with_(**{"optimizer.lr": base.optimizer.lr * (1 + i / 7)})
        for i, (e, s, d) in enumerate(zip(epochs, seeds, (0, 0, 0, 1, 0, 0, 1), strict=True))
    ]
    study = train(recipes, pictures, out=tmp_path / "study")
    assert max(sizes) == (3, 3), "three places, three different beginnings at some time"
    assert len(list((study.path / "weights").iterdir())) == 1
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, pictures, tmp_path / f"alone{i}")


def test_structures_train_apart_and_keep_their_numbers(pictures: Data, tmp_path: Path) -> None:
    recipes = [r for pair in zip(members("dense", "adam", "plain"), members("cnn", "sgd", "plain"), strict=True) for r in pair]
    study = train(recipes, pictures, out=tmp_path / "study")
    assert len(study.info["plans"]) == 2
    for i in (0, 1, 9):
        equals(study, i, recipes[i], pictures, tmp_path / f"alone{i}")


@pytest.mark.parametrize(("way", "workers"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_every_way_gives_the_same(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: int, workers: int
) -> None:
    recipes = members("cnn", "adam", "dropout")
    monkeypatch.setattr(plan, "choose", lambda *a, **k: plan.Plan(6, way, workers, 1, "told to"))
    study = train(recipes, pictures, out=tmp_path / "study")
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, pictures, tmp_path / f"alone{i}")


def wild(seed: int, lr: float = 0.01, section: Any = None, rule: str = "momentum") -> Recipe:
    return Recipe(seed=seed, model=section or {}, optimizer={"name": rule, "lr": lr}, epochs=4, batch_size=16, data_seed=1)


@pytest.mark.parametrize(
    ("section", "rule"),
    [({}, "momentum"), ({}, "adam"), ({"batch_norm": "after"}, "adam"), ({"factor": 2, "dropout": 0.2}, "momentum")],
    ids=["chain", "fused", "statistics", "vmap"],
)
def test_a_network_that_diverges_leaves_every_other_bit_as_it_was(
    pictures: Data, tmp_path: Path, section: dict[str, Any], rule: str
) -> None:
    def members(second: float) -> list[Recipe]:
        return [wild(s, second if s == 1 else 0.01, section, rule) for s in range(4)]

    calm, recipes = train(members(0.01), pictures, out=tmp_path / "calm"), members(1e30)
    study = train(recipes, pictures, out=tmp_path / "wild")
    assert [study.members[i]["status"] for i in range(4)] == ["finished", "diverged", "finished", "finished"]
    one_lr = train(members(0.02), pictures, out=tmp_path / "one")
    for i in (0, 2, 3):
        a, b = study.weights(i), one_lr.weights(i)  # the same operations, but for the numbers of member 1
        assert all(torch.equal(a[k], b[k]) for k in a)
        close(a, calm.weights(i), 1e-4)
    told = study.members[1]
    run = study.run(1)
    assert run.status == "diverged"
    assert "the loss became NaN or infinite at step" in told["error"]
    with pytest.raises(Exception, match="NaN") as alone:
        fit(recipes[1], pictures, out=tmp_path / "alone")
    assert str(alone.value) == told["error"]
    assert told["layer"] in {"loss", *(name for name, _ in run.build().named_modules())}
    if not section:
        assert all(bool(torch.isfinite(v).all()) for v in study.weights(1).values()), "those from before the step that broke"


def test_if_all_diverge_the_study_still_ends(pictures: Data, tmp_path: Path) -> None:
    study = train([wild(s, 1e30) for s in range(3)], pictures, out=tmp_path / "study")
    assert study.status == "finished"
    assert {m["status"] for m in study.members.values()} == {"diverged"}
    assert study.results == [{}, {}, {}]


def test_those_that_stop_early_leave(pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    step = Population.step
    monkeypatch.setattr(Population, "step", lambda self, *a: sizes.append(self.members) or step(self, *a))
    recipes = [wild(s).with_(epochs=e) for s, e in enumerate((1, 3, 2, 4))]
    train(recipes, pictures, out=tmp_path / "study")
    per_epoch = -(-pictures.size("train") // 16)
    assert sizes[-4 * per_epoch :: per_epoch] == [4, 3, 2, 1]


class Branches(nn.Module):
    """Somebody's network with a branch on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.net(x)
        return out * 2 if float(out.sum()) > 0 else out


class Fused(nn.Module):
    """Somebody's network around the framework's fused cell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTM(1, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.cell(x[:, :, None])[0][:, -1])


class Drops(nn.Module):
    """Somebody's network with the framework's own dropout, which draws from the global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Residual(nn.Module):
    """Somebody's network that vmap can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.out = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.norm(x + torch.tanh(self.inner(x))))


class Hidden(nn.Module):
    """Somebody's network with a random number that is neither parameter nor buffer: vmap would take one for all."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.scale = nn.Linear(4, 3), float(torch.rand(()) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.net(x)


class Careful(nn.Module):
    """Somebody's network with a branch on the data, but only when it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.net(x)
        return out * 2 if not self.training and float(out.sum()) > 0 else out


class Reassigns(nn.Module):
    """Somebody's network that puts a new tensor in the place of its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return self.net(x - self.mean)


class Masked(nn.Module):
    """Somebody's network with a mask of truth values, and a cache that is not saved and grows."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)
        self.register_buffer("mask", torch.tensor([True, True, False, True]))
        self.register_buffer("seen", torch.zeros(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(self.seen) < 2:
            self.seen = torch.zeros(2)
        return self.net(x * self.mask)


class Grows(nn.Module):
    """Somebody's network with a saved buffer that does not keep its shape."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = torch.cat([self.seen, self.seen])
        return self.net(x)


CANNOT, DIFFERS = "cannot be vectorised", "its numbers are not those it gives alone"
FOREIGN = {"Branches": CANNOT, "Careful": CANNOT, "Fused": CANNOT, "Drops": CANNOT,
           "Hidden": DIFFERS, "Reassigns": DIFFERS, "Residual": "", "Masked": ""}  # and why not together  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_what_cannot_be_vectorised_trains_one_by_one(tmp_path: Path, name: str) -> None:
    data = load("iris")
    base = Recipe(model=f"{__name__}:{name}", dtype="float64", batch_size=32, epochs=2)
    # Sorted, those of one seed sit together: two that are alike would hide what differs by seed.
    recipes = [base.with_(seed=s, **{"optimizer.lr": lr}) for s in (0, 1) for lr in (0.01, 0.02)]
    heard = []

    class Ear(StudyListener):
        def plan(self, members: list[int], way: str, why: str, paces: dict[str, float], noted: bool) -> None:
            heard.append((way, why, noted))

    study = train(recipes, data, out=tmp_path / "study", listener=Ear())
    ((way, why, noted),) = heard
    assert way == ("one by one" if FOREIGN[name] else "vectorised by 4")
    assert FOREIGN[name] in why
    assert noted == bool(FOREIGN[name])
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, data, tmp_path / f"alone{i}")


def test_what_a_module_puts_in_the_place_of_a_buffer_is_kept(tmp_path: Path) -> None:
    data = load("iris")
    run = fit(Recipe(model=f"{__name__}:Reassigns", batch_size=32, epochs=2), data, out=tmp_path / "run")
    x, index = data.x[data.parts["train"]], []
    for epoch in range(2):
        index += list(torch.randperm(len(x), generator=stream(0, "order", epoch)).split(32))
    mean = torch.zeros(4)
    for rows in index:
        mean = 0.9 * mean + 0.1 * run.normalizer(x[rows]).mean(0)
    torch.testing.assert_close(run.model().mean, mean)
    assert run.evaluate(part="test").loss == pytest.approx(run.result["test_loss"])


def test_a_buffer_that_does_not_keep_its_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"`seen` of the network became \[4\] of float32 in training, but a buffer must stay"):
        fit(Recipe(model=f"{__name__}:Grows", epochs=1), load("iris"), out=tmp_path / "run")


class Tied(nn.Module):
    """Somebody's network with one weight under two names, and a learnable scale."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.two.weight = self.one.weight
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.scale * self.two(torch.tanh(self.one(x))))


def test_tied_weights_and_scalars(tmp_path: Path) -> None:
    data = load("iris")
    base = Recipe(model=f"{__name__}:Tied", dtype="float64", batch_size=32, epochs=3, optimizer={"lr": 0.02})
    study = train([base.with_(seed=s) for s in range(2)], data, out=tmp_path / "study")
    assert study.info["plans"][0]["chunk"] == 2
    for i in range(2):
        equals(study, i, base.with_(seed=i), data, tmp_path / f"alone{i}")
        run = study.run(i)
        assert torch.equal(run.model().one.weight, run.model().two.weight)
        assert run.evaluate(part="valid").loss == pytest.approx(run.result["valid_loss"])


@pytest.mark.parametrize("room", [2, 3])
@pytest.mark.parametrize("dropout", [(0.5, 0.1, 0.0), (0.0, 0.2, 0.5), (0.2, 0.0, 0.5)])
@pytest.mark.parametrize("section", [{"factor": 2}, {}], ids=["vmap", "chain"])
def test_each_keeps_its_own_dropout_when_others_leave_and_join(
    pictures: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    section: dict[str, Any],
    dropout: tuple[float, ...],
    room: int,
) -> None:
    monkeypatch.setattr(plan, "choose", lambda *a, **k: plan.Plan(3, room, 1, 1, "told to"))
    models = [{"name": "dense", "dropout": p, **section} for p in dropout]
    recipes = [Recipe(model=m, dtype="float64", batch_size=13, epochs=e) for m, e in zip(models, (1, 3, 2), strict=True)]
    study = train(recipes, pictures, out=tmp_path / "study")
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, pictures, tmp_path / f"alone{i}")


def test_memory_that_runs_out_halves_the_chunk(pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Population.step

    def tight(self: Population, *a: Any) -> Any:
        if self.members > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return step(self, *a)

    monkeypatch.setattr(Population, "step", tight)
    recipes = members("dense", "adam", "dropout")
    study = train(recipes, pictures, out=tmp_path / "study")
    assert [(p["chunk"], p["why"]) for p in study.info["plans"]] == [(2, "memory ran out with more at once")]
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, pictures, tmp_path / f"alone{i}")


def test_a_worker_that_the_system_kills_is_one_that_ran_out_of_memory(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, here = Population.step, os.getpid()

    def greedy(self: Population, *a: Any) -> Any:
        if self.members > 1 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *a)

    monkeypatch.setattr(Population, "step", greedy)
    monkeypatch.setattr(plan, "choose", lambda *a, **k: plan.Plan(5, 3, 2, 1, "told to"))
    recipes = members("dense", "adam", "plain")
    study = train(recipes, pictures, out=tmp_path / "study")
    assert [(p["chunk"], p["noted"]) for p in study.info["plans"]] == [(1, True)]
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, pictures, tmp_path / f"alone{i}")


def test_many_structures_train_side_by_side_and_one_that_is_too_large_is_cut_alone(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, run, side = Population.step, workers.run, []

    def tight(self: Population, *a: Any) -> Any:
        if self.members > 1 and self.model[1].out_features == 30:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return step(self, *a)

    monkeypatch.setattr(Population, "step", tight)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(workers, "run", lambda jobs, n, idle: side.append(n) or run(jobs, n, idle))
    base = Recipe(batch_size=13, dtype="float64", epochs=2)
    recipes = [base.with_(seed=s, model={"hidden": [h]}) for h in (10, 20, 30, 40) for s in range(2)]
    study = train(recipes, pictures, out=tmp_path / "study")
    assert [(p["group"], p["chunk"], p["workers"]) for p in sorted(study.info["plans"], key=lambda p: p["group"])] == [
        (0, 2, 2), (1, 2, 2), (2, 1, 2), (3, 2, 2)
    ]  # fmt: skip
    assert side == [2, 2], "all at once, then what memory was too small for"
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, pictures, tmp_path / f"alone{i}")


def test_where_two_are_too_large_for_each_other_all_train_one_after_another(
    pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a resume: that there is no room for two is kept in the plans."""
    step, here = Population.step, os.getpid()

    def tight(self: Population, *a: Any) -> Any:
        if os.getpid() != here and self.model[1].out_features >= 30:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return step(self, *a)

    monkeypatch.setattr(Population, "step", tight)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    recipes = [Recipe(batch_size=13, dtype="float64", epochs=2, model={"hidden": [h]}) for h in (10, 20, 30, 40)]
    study = train(recipes, pictures, out=tmp_path / "study")
    assert sum(p["calm"] for p in study.info["plans"]) >= 1
    before = study.path.joinpath("members.jsonl").read_text().splitlines(keepends=True)
    study.path.joinpath("members.jsonl").write_text("".join(line for line in before if '"member": 0' in line))
    record.say(study.path / "study.json", status="interrupted")
    study = resume_study(study.path, pictures)
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, pictures, tmp_path / f"alone{i}")


def test_what_began_on_several_threads_goes_on_so(pictures: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = [Recipe(batch_size=13, dtype="float64", epochs=2, model={"hidden": [h]}) for h in range(10, 18)]
    study = train(recipes, pictures, out=tmp_path / "study")
    plans = [{**p, "workers": 1, "threads": 2 if p["group"] == 3 else 1} for p in study.info["plans"]]
    record.say(study.path / "study.json", status="interrupted", plans=plans)
    study.path.joinpath("members.jsonl").write_text("")
    used, monkey = [], train_module.threads
    monkeypatch.setattr(train_module, "threads", lambda n: used.append(n) or monkey(n))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    resume_study(study.path, pictures)
    assert used == [2], "here, and the others side by side on one thread each"


def test_chunks_of_other_members_have_other_names() -> None:
    assert train_module.name_of([0, 1, 2]) != train_module.name_of([0, 2, 3])


def test_what_a_container_may_take(tmp_path: Path) -> None:
    assert plan._allowed(tmp_path) == math.inf
    (tmp_path / "memory.max").write_text("max\n")
    assert plan._allowed(tmp_path) == math.inf
    for name, text in {"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 500\ninactive_file 200\n"}.items():
        (tmp_path / name).write_text(text)
    assert plan._allowed(tmp_path) == 500


def test_a_regression_has_its_population_too(tmp_path: Path) -> None:
    data = load("diabetes")
    recipes = [
        Recipe(model={"name": "dense", "hidden": [8]}, dtype="float64", epochs=3, seed=s, optimizer={"lr": 0.01 * (s + 1)})
        for s in range(3)
    ]
    study = train(recipes, data, out=tmp_path / "study")
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, data, tmp_path / f"alone{i}")
