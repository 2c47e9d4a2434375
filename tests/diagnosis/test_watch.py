"""A loop that is not danlu's, watched: what is found in it, and what cannot be."""

from __future__ import annotations

from typing import Any

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
    assert train(0.3, epochs=1).diagnose().unseen == ["loop_data", "recipe"]


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


DIGITS = load("digits")


def diagnosed(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    epochs: int = 8,
    batch_size: int = 32,
    scale: float = 1 / 255,
    gamma: float = 1.0,
) -> danlu.Diagnosis:
    """A plain loop's diagnosis; gamma: of the rate, by epoch."""
    (x, y), (held, target) = DIGITS.part("train"), DIGITS.part("valid")
    x, held = x.flatten(1) * scale, held.flatten(1) * scale
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
    with danlu.watch(model, optimizer, classes=10) as watched:
        for _ in range(epochs):
            model.train()
            for batch in torch.randperm(len(x)).split(batch_size):
                if len(batch) < batch_size:
                    continue
                loss = F.cross_entropy(model(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                watched.step(loss)
            model.eval()
            with torch.no_grad():
                watched.epoch(valid_loss=float(F.cross_entropy(model(held), target)))
            schedule.step()
    return watched.diagnose()


def looped(model: nn.Module, optimizer: torch.optim.Optimizer, **options: Any) -> list[str]:
    """The causes found in a plain loop."""
    return [finding.cause for finding in diagnosed(model, optimizer, **options).findings]


def network(*between: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), *between, nn.Linear(64, 10))


Adam, SGD = torch.optim.Adam, torch.optim.SGD


def test_loops_of_every_usual_kind_are_not_flagged() -> None:
    relu = network(nn.ReLU())
    assert looped(relu, Adam(relu.parameters(), 2e-3)) == ["healthy"]
    decayed = network(nn.ReLU(), nn.Dropout(0.2))
    steps = torch.optim.AdamW(decayed.parameters(), 2e-3, weight_decay=0.01)
    assert looped(decayed, steps, epochs=20, gamma=0.9) == ["healthy"]
    normed = network(nn.BatchNorm1d(64), nn.Tanh())
    steps = SGD(normed.parameters(), 0.05, momentum=0.9, nesterov=True)
    assert looped(normed, steps) == ["healthy"]


def test_what_the_optimiser_says_is_read() -> None:
    """Momentum, ε, decay and rate: no recipe is asked for."""
    relu = network(nn.ReLU())
    assert (
        looped(relu, SGD(relu.parameters(), 0.05, momentum=0.999), epochs=3)[0]
        == "momentum_too_high"
    )
    relu = network(nn.ReLU())
    assert looped(relu, Adam(relu.parameters(), 2e-3, eps=10))[0] == "optimizer_eps"
    relu = network(nn.ReLU())
    steps = torch.optim.AdamW(relu.parameters(), 2e-3, weight_decay=50)
    assert looped(relu, steps)[0] == "weight_decay_too_strong"
    relu = network(nn.ReLU())
    assert looped(relu, Adam(relu.parameters(), 1e-6))[0] == "lr_too_low"
    relu = network(nn.ReLU())
    decays = looped(relu, Adam(relu.parameters(), 2e-3), gamma=0.02)
    assert decays[0] == "schedule_decays_too_soon"


def test_rates_to_try_are_told_by_the_one_it_began_with() -> None:
    relu = network(nn.ReLU())
    first = diagnosed(relu, SGD(relu.parameters(), 300.0), epochs=4, gamma=0.1).findings[0]
    assert first.cause == "lr_too_high"
    assert [str(edit) for edit in first.prescriptions[0].edits] == ["optimizer.lr=30"]


def test_what_the_module_says_is_read() -> None:
    masked = network(nn.ReLU(), nn.Dropout(0.97))
    assert looped(masked, Adam(masked.parameters(), 2e-3))[0] == "dropout_too_strong"
    normed = network(nn.BatchNorm1d(64), nn.ReLU())
    tiny = looped(normed, SGD(normed.parameters(), 0.1), epochs=2, batch_size=2)
    assert tiny[0] == "batch_norm_tiny_batch"
    linear = network()
    assert looped(linear, Adam(linear.parameters(), 2e-3))[0] == "missing_nonlinearity"


def test_inputs_as_they_come_are_told_from_weights_that_are_too_large() -> None:
    relu = network(nn.ReLU())
    assert looped(relu, SGD(relu.parameters(), 1e-4), scale=1.0)[0] == "inputs_not_normalised"
    large = network(nn.ReLU())
    with torch.no_grad():
        for p in large.parameters():
            p.mul_(30)
    assert looped(large, SGD(large.parameters(), 1e-3))[0] == "init_too_large"


def test_a_loop_that_ended_in_the_middle_is_told_to_go_on() -> None:
    relu = network(nn.ReLU())
    assert looped(relu, SGD(relu.parameters(), 0.05), epochs=5)[0] == "too_few_epochs"
