"""Networks of others: what vmap follows trains together, the rest one by one; each is what it gives alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from populations import equals
from torch import nn

from danlu import Recipe, fit, load
from danlu.errors import ModelError
from danlu.rng import stream
from danlu.train import StudyListener, train
from danlu.train.dispatch.plan import Plan


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
def test_foreign_modules_are_vectorised_if_exact_and_else_train_one_by_one(
    tmp_path: Path, name: str
) -> None:
    data = load("iris")
    base = Recipe(model=f"{__name__}:{name}", dtype="float64", batch_size=32, epochs=2)
    # Sorted, those of one seed sit together: two that are alike would hide what differs by seed.
    recipes = [base.with_(seed=s, **{"optimizer.lr": lr}) for s in (0, 1) for lr in (0.01, 0.02)]
    heard = []

    class Ear(StudyListener):
        def plan(self, members: list[int], plan: Plan) -> None:
            heard.append(plan)

    study = train(recipes, data, out=tmp_path / "study", listener=Ear())
    (plan,) = heard
    assert plan.description == ("one by one" if FOREIGN[name] else "vectorised by 4")
    assert FOREIGN[name] in plan.reason
    assert plan.is_surprising == bool(FOREIGN[name])
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, data, tmp_path / f"alone{i}")


def test_a_buffer_that_a_module_replaces_is_kept(tmp_path: Path) -> None:
    data = load("iris")
    run = fit(
        Recipe(model=f"{__name__}:Reassigns", batch_size=32, epochs=2), data, out=tmp_path / "run"
    )
    x, index = data.x[data.parts["train"]], []
    for epoch in range(2):
        index += list(torch.randperm(len(x), generator=stream(0, "order", epoch)).split(32))
    mean = torch.zeros(4)
    for rows in index:
        mean = 0.9 * mean + 0.1 * run.normalizer(x[rows]).mean(0)
    torch.testing.assert_close(run.model().mean, mean)
    assert run.evaluate(part="test").loss == pytest.approx(run.result["test_loss"])


def test_a_buffer_that_does_not_keep_its_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError,
        match=r"`seen` of the network became \[4\] of float32 in training, but a buffer must stay",
    ):
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


def test_tied_weights_and_scalar_parameters_train(tmp_path: Path) -> None:
    data = load("iris")
    base = Recipe(
        model=f"{__name__}:Tied", dtype="float64", batch_size=32, epochs=3, optimizer={"lr": 0.02}
    )
    study = train([base.with_(seed=s) for s in range(2)], data, out=tmp_path / "study")
    assert study.info["plans"][0]["population_size"] == 2
    for i in range(2):
        equals(study, i, base.with_(seed=i), data, tmp_path / f"alone{i}")
        run = study.run(i)
        assert torch.equal(run.model().one.weight, run.model().two.weight)
        assert run.evaluate(part="valid").loss == pytest.approx(run.result["valid_loss"])
