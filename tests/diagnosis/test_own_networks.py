"""Mistakes in a network of one's own are named: in a run, and in a loop of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import danlu
from danlu import Data, Recipe, Run, fit, load
from danlu.diagnosis.diagnosing import HEALTHY

RECIPE = Recipe(optimizer={"name": "adam", "lr": 0.003}, batch_size=32, epochs=8)


class Sound(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)

    def hidden(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x.flatten(1)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x))


class Mixes(Sound):
    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        return self.out(h - h.mean(0))


class AlwaysDrops(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.dropout(self.hidden(x), 0.5))


class Softmax(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.out(self.hidden(x)), 1)


class LogSoftmax(Sound):
    """No mistake: cross-entropy takes it as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.out(self.hidden(x)), 1)


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * (1 - torch.tanh(x))


class WrongBackward(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(_Halved.apply(self.second(torch.tanh(self.first(x.flatten(1))))))


class Frozen(Sound):
    def __init__(self) -> None:
        super().__init__()
        for p in (*self.first.parameters(), *self.second.parameters()):
            p.requires_grad = False


class Detached(Sound):
    """No gradient comes to what lies before."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x)
        return self.out(hidden.detach() + 0.01 * hidden[:, :1].detach().sum())


class Follows(Sound):
    """An example sees the one before it, and not the one behind it."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        return self.out(h + torch.cat((h[:1], h[:-1])))


class Constant(Sound):
    """Every unit begins as every other."""

    def __init__(self) -> None:
        super().__init__()
        for p in self.parameters():
            nn.init.constant_(p, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))


class Convolutional(nn.Module):
    """Thousands of rectifiers: some bend within every step of a difference."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n, q in ((1, 12), (12, 12), (12, 12)):
            layers += [nn.Conv2d(n, q, 3, padding=1), nn.BatchNorm2d(q), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten())
        self.out = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x.view(-1, 1, 8, 8)))


class Single(Sound):
    """Computes a part in single precision, whatever it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x).float().to(self.out.weight.dtype))


CAUSES = {
    Sound: HEALTHY,
    Convolutional: HEALTHY,
    Single: HEALTHY,
    Follows: "examples_mixed_in_batch",
    Constant: "init_symmetric",
    Detached: "frozen_weights",
    LogSoftmax: HEALTHY,
    Mixes: "examples_mixed_in_batch",
    AlwaysDrops: "dropout_in_evaluation",
    Softmax: "wrong_output_layer",
    WrongBackward: "wrong_gradient",
    Frozen: "frozen_weights",
}


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


def _watched(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Data, epochs: int
) -> danlu.Watch:
    x, y = data.part("train")
    with danlu.watch(model, optimizer, classes=10) as watched:
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(32):
                loss = F.cross_entropy(model(x[batch].float() / 16), y[batch])
                model.zero_grad()
                loss.backward()
                optimizer.step()
                watched.step(loss)
    return watched


@pytest.mark.parametrize("network", CAUSES, ids=lambda n: n.__name__)
def test_a_run_of_it_is_diagnosed(network: type[nn.Module], digits: Data, tmp_path: Path) -> None:
    run = fit(network, digits, recipe=RECIPE, out=tmp_path / "run")
    found = run.diagnose()
    assert found.findings[0].cause == CAUSES[network]
    # What computes in single precision cannot be held against differences, and that is said.
    assert ("gradients" in found.unseen) == (network in (Single, AlwaysDrops))


@pytest.mark.parametrize("network", CAUSES, ids=lambda n: n.__name__)
def test_a_loop_of_one_s_own_is_diagnosed(network: type[nn.Module], digits: Data) -> None:
    torch.manual_seed(0)
    model = network()
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=0.003)
    watched = _watched(model, optimizer, digits, epochs=8)
    assert watched.diagnose().findings[0].cause == CAUSES[network]
    assert model.training


def test_layers_that_the_optimiser_was_not_given_are_found(digits: Data) -> None:
    torch.manual_seed(0)
    model = Sound()
    optimizer = torch.optim.Adam(model.out.parameters(), lr=0.003)
    watched = _watched(model, optimizer, digits, epochs=1)
    first = watched.diagnose().findings[0]
    assert first.cause == "frozen_weights"
    assert "first" in str(first.figures["names"])


def test_without_trust_nothing_is_imported_and_that_is_said(digits: Data, tmp_path: Path) -> None:
    recipe = RECIPE.with_([f"model={__name__}:Mixes", "epochs=1"])
    fit(recipe, digits, out=tmp_path / "run")
    found = Run(tmp_path / "run").diagnose()
    assert "network" in found.unseen
    assert "--trust" in " ".join(found.unseen_sentences())
    trusted = Run(tmp_path / "run", trust=True).diagnose()
    assert trusted.findings[0].cause == "examples_mixed_in_batch"
    assert "network" not in trusted.unseen


def test_a_text_that_is_read_too_far_back(tmp_path: Path) -> None:
    recipe = Recipe(
        model={"name": "rnn", "hidden": (24,), "embedding": 8},
        optimizer={"lr": 0.003},
        batch_size=32,
        epochs=6,
    )
    found = fit(recipe, load("dna"), out=tmp_path / "run").diagnose().findings[0]
    assert found.cause == "rnn_memory_too_short"
    assert [str(p.edits[0]) for p in found.prescriptions] == ["model=lstm", "model=gru"]


def test_gradients_that_grow_back_in_time(tmp_path: Path) -> None:
    recipe = Recipe(
        model={"name": "rnn", "hidden": (24,), "embedding": 8},
        init={"name": "normal", "std": 0.5},
        optimizer={"name": "sgd", "lr": 0.3},
        batch_size=32,
        epochs=4,
    )
    found = fit(recipe, load("dna"), out=tmp_path / "run").diagnose().findings[0]
    assert found.cause == "exploding_gradient"
    assert found.figures["growth"] > 30


def test_batches_of_one(digits: Data, tmp_path: Path) -> None:
    recipe = Recipe(
        model={"name": "dense", "hidden": (64, 32)},
        optimizer={"lr": 0.01},
        batch_size=1,
        epochs=3,
    )
    found = fit(recipe, digits, out=tmp_path / "run").diagnose().findings[0]
    assert found.cause == "batch_too_small"
    assert "batch_size=64" in [str(edit) for p in found.prescriptions for edit in p.edits]
