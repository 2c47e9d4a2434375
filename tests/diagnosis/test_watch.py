"""A loop that is not danlu's, watched: what is found in it, and what cannot be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import danlu
from danlu import load
from danlu.errors import ModelError


def train(lr: float, epochs: int = 12) -> danlu.Watch:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    data = load("digits")
    (x, y), (held, target) = data.part("train"), data.part("valid")
    x, held = x.flatten(1) / 255, held.flatten(1) / 255
    with danlu.watch(model, optimizer, classes=10) as watched:
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(32):
                loss = F.cross_entropy(model(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                watched.step(loss)
            with torch.no_grad():
                watched.epoch(valid_loss=float(F.cross_entropy(model(held), target)))
    return watched


def test_a_healthy_loop_is_not_flagged() -> None:
    watched = train(0.3)
    assert watched.diagnose().is_healthy
    assert len(watched.history) == 12
    assert {"0", "1", "2"} <= set(watched.measurements["layer"])


def test_a_rate_that_is_too_high_is_named() -> None:
    assert train(1000.0, epochs=2).diagnose().findings[0].cause == "lr_too_high"


def test_what_cannot_be_judged_is_said() -> None:
    assert train(0.3, epochs=1).diagnose().unseen == ["data", "recipe"]


def test_what_cannot_be_watched_is_refused() -> None:
    with pytest.raises(ModelError, match="`classes`"):
        danlu.watch(nn.Linear(1, 1), None, classes=0)


def test_a_diverged_network_answers_alike() -> None:
    found = train(1e20, epochs=2).diagnose()
    assert [finding.cause for finding in found.findings] == ["lr_too_high"]


def test_accuracies_of_epochs_are_read() -> None:
    """Of how many examples they are is not known."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with danlu.watch(model, optimizer, classes=2) as watched:
        for epoch in range(4):
            loss = model(torch.ones(8, 4)).square().mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            watched.step(loss)
            watched.epoch(
                train_accuracy=0.99, valid_accuracy=0.55, test_accuracy=0.54, train_loss=0.1,
                valid_loss=0.5 + epoch,
            )  # fmt: skip
    assert "overfitting" in [finding.cause for finding in watched.diagnose().findings]
