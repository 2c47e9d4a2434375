"""What a watched loop shows beside its measurements: where it stands, what does not move."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import make_friedman1
from torch import Tensor, nn

import danlu
from danlu import load
from danlu.errors import ModelError

DIGITS = load("digits")
X, Y = DIGITS.part("train")
X = X.flatten(1) / 255


def dense(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n, q in pairwise(widths):
        layers += [nn.Linear(n, q), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def watched(
    model: nn.Module,
    x: Tensor = X,
    y: Tensor = Y,
    loss_of: Any = F.cross_entropy,
    lr: float = 2e-3,
    epochs: int = 6,
    steps: bool = True,
    **options: Any,
) -> danlu.Watch:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr)
    with danlu.watch(model, optimizer, **options) as watch:
        for _ in range(epochs):
            model.train()
            for batch in torch.randperm(len(x)).split(32):
                loss = loss_of(model(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                if steps:
                    optimizer.step()
                watch.step(loss)
                model.eval()
                with torch.no_grad():
                    model(x)  # a look at how it does, after every step
                model.train()
    return watch


def causes(watch: danlu.Watch) -> list[str]:
    return [finding.cause for finding in watch.diagnose().findings]


def squared(out: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(out[:, 0], y)


class Mixes(nn.Module):
    """Reads the batch as if it were time."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.out = nn.GRU(8, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cells(x.view(-1, 8, 8))[0][:, -1])


def test_a_pass_in_evaluation_mode_is_no_part_of_a_step() -> None:
    """After every step, and so where the next one is measured, all examples pass."""
    torch.manual_seed(0)
    watch = watched(nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 10)), classes=10, every=10)
    assert causes(watch) == ["missing_nonlinearity"]
    assert watch._settings().batch_size == 32


def test_examples_that_are_read_as_time_are_mixed() -> None:
    torch.manual_seed(0)
    assert causes(watched(Mixes(), classes=10, epochs=2))[0] == "examples_mixed_in_batch"


def test_units_that_begin_alike_stay_so() -> None:
    model = dense(64, 32, 10)
    for p in model.parameters():
        nn.init.constant_(p, 0.05)
    assert causes(watched(model, classes=10))[0] == "init_symmetric"
    # Last weights of 0 are a usual start.
    model = dense(64, 32, 10)
    nn.init.zeros_(model[2].weight)  # type: ignore[arg-type]
    assert causes(watched(model, classes=10)) == ["healthy"]


def test_what_no_step_reaches_is_frozen() -> None:
    watch = watched(dense(64, 32, 10), classes=10, steps=False)
    (finding, *_) = watch.diagnose().findings
    assert finding.cause == "frozen_weights"
    assert finding.figures["layers"] == 2
    # Gradients that fade are not the optimiser's fault.
    assert "frozen_weights" not in causes(watched(dense(64, *[8] * 30, 10), classes=10))


def test_at_chance_is_not_healthy() -> None:
    shuffled = Y[torch.randperm(len(Y), generator=torch.Generator().manual_seed(0))]
    found = causes(watched(dense(64, 32, 10), y=shuffled, classes=10, epochs=7))
    assert found == ["nothing_learnt"]


def test_without_a_step_nothing_is_judged() -> None:
    model = dense(64, 32, 10)
    with danlu.watch(model, torch.optim.SGD(model.parameters(), 0.1)) as watch:
        pass
    found = watch.diagnose()
    assert [finding.cause for finding in found.findings] == ["not_judged"]
    assert "loop_steps" in found.unseen
    assert "step(loss)" in " ".join(found.unseen_sentences())


def test_numbers_are_judged_by_the_loss_at_the_start_or_as_told() -> None:
    x, y = (torch.from_numpy(a).float() for a in make_friedman1(800, noise=0.5, random_state=0))
    y = (y - y.mean()) / y.std()
    slow = watched(dense(10, 32, 1), x, y, squared, lr=1e-6)
    assert causes(slow)[0] == "lr_too_low"
    assert "chance" in slow.diagnose().unseen
    told = watched(dense(10, 32, 1), x, y, squared, epochs=30, chance=1.0)
    assert causes(told) == ["healthy"]
    assert "chance" not in told.diagnose().unseen


def test_losses_alone_show_over_fitting() -> None:
    model = dense(64, 32, 10)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    with danlu.watch(model, optimizer, classes=10) as watch:
        for epoch in range(20):
            for batch in torch.randperm(len(X)).split(64):
                loss = F.cross_entropy(model(X[batch]), Y[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                watch.step(loss)
            watch.epoch(val_loss=0.5 + 0.1 * epoch)  # as others call it
    assert causes(watch) == ["overfitting"]


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"valid_loss": "low"}, "must be a number"),
    ],
)
def test_figures_that_are_none_are_refused(figures: dict[str, Any], message: str) -> None:
    watch = danlu.watch(nn.Linear(2, 2))
    with pytest.raises(ModelError, match=message):
        watch.epoch(**figures)


def test_a_figure_that_is_misspelt_is_said() -> None:
    with pytest.warns(UserWarning, match="did you mean 'valid_loss'"):
        danlu.watch(nn.Linear(2, 2)).epoch(valid_los=1.0)


def test_a_module_that_is_not_called_is_not_seen() -> None:
    model, another = dense(64, 32, 10), dense(64, 32, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with danlu.watch(another, optimizer, classes=10) as watch:
        for _ in range(3):
            loss = F.cross_entropy(model(X[:32]), Y[:32])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            watch.step(loss)
    assert "loop_layers" in watch.diagnose().unseen


def test_a_gate_of_one_unit_is_no_bottleneck() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.gate, self.out = nn.Linear(64, 32), nn.Linear(64, 1), nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(F.relu(self.inner(x)) * torch.sigmoid(self.gate(x)))

    torch.manual_seed(0)
    assert "model_too_small" not in causes(watched(Gated(), classes=10, lr=2e-4, epochs=2))
    narrow = nn.Sequential(nn.Linear(64, 1), nn.Tanh(), nn.Linear(1, 10))
    assert causes(watched(narrow, classes=10, epochs=20)) == ["model_too_small"]


@pytest.mark.parametrize("loss", [torch.zeros(2), "0.3", None])
def test_losses_that_are_no_number_are_refused(loss: Any) -> None:
    with pytest.raises(ModelError, match="must be one number"):
        danlu.watch(nn.Linear(2, 2)).step(loss)


@pytest.mark.parametrize(
    "options", [{"classes": 1}, {"chance": -1.0}, {"chance": "low"}, {"chance": float("inf")}]
)
def test_what_chance_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        danlu.watch(nn.Linear(2, 2), **options)
