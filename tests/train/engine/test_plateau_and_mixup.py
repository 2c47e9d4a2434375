"""Rates that follow the loss, and mixed examples, each against a loop of PyTorch's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from danlu import Recipe, Run, fit, load, resume
from danlu.data.augment import mixture
from danlu.recipe.build import build_model
from danlu.rng import stream
from danlu.train.dispatch.listener import Listener

PLATEAU = Recipe(
    model={"name": "dense", "hidden": (8,)},
    optimizer={"name": "sgd", "lr": 3.0},
    schedule={"name": "plateau", "wait": 2, "gamma": 0.5},
    batch_size=16,
    epochs=25,
)


def test_plateau_lowers_the_rate_as_pytorch_does(tmp_path: Path) -> None:
    history = fit(PLATEAU, load("iris"), out=tmp_path / "run").history
    parameter = torch.nn.Parameter(torch.zeros(1))
    own = torch.optim.SGD([parameter], lr=3.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        own, factor=0.5, patience=1, threshold=0.0, cooldown=0
    )
    rates = []
    for row in history:
        rates.append(own.param_groups[0]["lr"])
        scheduler.step(row["valid_loss"])
    assert [row["lr"] for row in history] == rates
    assert len(set(rates)) > 2


class Stops(Listener):
    """Interrupts after some epochs."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def epoch(self, run: Run, row: dict) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_resumed_plateau_goes_on_as_without_a_break(tmp_path: Path) -> None:
    data = load("iris")
    whole = fit(PLATEAU, data, out=tmp_path / "whole")
    with pytest.raises(BaseException, match=r"interrupted|resume"):
        fit(PLATEAU, data, out=tmp_path / "cut", listener=Stops(20), checkpoint_every=0)
    again = resume(tmp_path / "cut", data)
    rows = [[{**row, "seconds": 0} for row in run.history] for run in (whole, again)]
    assert rows[0] == rows[1]


def test_mixup_equals_mixing_soft_labels_by_hand(tmp_path: Path) -> None:
    data = load("iris")
    recipe = Recipe(
        model={"name": "dense", "hidden": (6,)},
        optimizer={"name": "sgd", "lr": 0.1},
        augment={"mixup": 0.5},
        batch_size=13,
        epochs=3,
        dtype="float64",
    )
    run = fit(recipe, data, out=tmp_path / "run")
    model = build_model(recipe, data.schema)
    own = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data.part("train")
    x = data.normalizer("zscore").to("cpu", torch.float64)(x)
    labels = F.one_hot(y, 3).double()
    k = 0
    for epoch in range(3):
        for batch in torch.randperm(len(x), generator=stream(0, "order", epoch)).split(13):
            g = stream(0, "mixup", k)
            weight, partner = mixture(0.5, len(batch), g)
            mixed = weight * x[batch] + (1 - weight) * x[batch][partner]
            soft = weight * labels[batch] + (1 - weight) * labels[batch][partner]
            loss = -(soft * model(mixed).log_softmax(1)).sum(1).mean()
            own.zero_grad()
            loss.backward()
            own.step()
            k += 1
    for name, value in run.model().state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-9, atol=1e-9)


def test_mixing_in_what_is_left_out_is_refused() -> None:
    recipe = Recipe(augment={"mixup": 0.2}, sample={"share": 0.5}, batch_size=8)
    with pytest.raises(Exception, match=r"augment\.mixup.*left out would be mixed in"):
        fit(recipe, load("iris"))
