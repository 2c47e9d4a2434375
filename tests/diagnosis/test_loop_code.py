"""What the code of a loop does is named, and what it rightly does is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from diagnosis.loops import Loop, X, Y, network
from torch import Tensor, nn

from danlu.diagnosis.diagnosing import HEALTHY


class Unlisted(nn.Module):
    """Keeps its hidden layers in a list that PyTorch does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Linear(64, 32), nn.Linear(32, 16)]
        self.last = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        for layer in self.hidden:
            x = layer(x).relu()
        out: Tensor = self.last(x)
        return out


def test_layers_in_a_plain_list_are_named() -> None:
    torch.manual_seed(0)
    finding = Loop(Unlisted()).run()[0]
    assert (finding.cause, finding.figures["unlisted"]) == ("frozen_weights", "hidden")
    torch.manual_seed(0)
    seen = Unlisted()
    seen.hidden = nn.ModuleList(seen.hidden)  # type: ignore[assignment]
    assert Loop(seen).run()[0].cause == HEALTHY


def test_gradients_set_to_zero_before_the_step_are_named() -> None:
    loop = Loop(network())
    loop.optimizer.register_step_pre_hook(lambda rule, *_: rule.zero_grad(set_to_none=False))
    finding = loop.run()[0]
    assert finding.cause == "wrong_gradient"
    assert "zero when the optimiser takes its step" in finding.why()


def test_a_loss_of_classes_below_zero_is_named() -> None:
    finding = Loop(network(), loss_of=F.nll_loss).run()[0]
    assert finding.cause == "wrong_output_layer"
    assert "never below 0" in finding.why()

    def log_of_softmax(out: Tensor, y: Tensor) -> Tensor:
        return F.nll_loss(F.log_softmax(out, 1), y)

    assert Loop(network(), loss_of=log_of_softmax).run()[0].cause == HEALTHY


@pytest.mark.parametrize("model", [nn.Linear(64, 10), nn.Sequential(nn.Linear(64, 10))])
def test_a_single_linear_layer_lacks_nothing_between_layers(model: nn.Module) -> None:
    """Some loss is left, as every third label is another."""
    noisy = torch.where(torch.arange(len(Y)) % 3 == 0, Y.roll(1), Y)
    loop = Loop(model, targets=noisy)
    assert loop.run(epochs=20)[0].cause == HEALTHY
    assert loop.watch.diagnose().unseen == ["loop_data", "recipe", "loop_rest"]
    assert {"", "Linear"} <= set(loop.watch.measurements.layer) or "0" in set(
        loop.watch.measurements.layer
    )


@pytest.mark.parametrize(
    "rule",
    [
        lambda p: torch.optim.Adam(p, 3e-3, eps=1e-3),
        lambda p: torch.optim.SGD(p, 5e-3, momentum=0.98),
        lambda p: torch.optim.AdamW(p, 3e-3, weight_decay=0.1),
    ],
)
def test_settings_are_not_blamed_for_noise(rule: Callable[..., torch.optim.Optimizer]) -> None:
    g = torch.Generator().manual_seed(0)
    others = torch.randint(10, Y.shape, generator=g)
    noisy = torch.where(torch.rand(Y.shape, generator=g) < 0.4, others, Y)
    model = network()
    assert Loop(model, rule(model.parameters()), targets=noisy).run(epochs=15)[0].cause == HEALTHY


def test_correct_losses_of_probabilities_are_no_fault() -> None:
    noisy = torch.where(torch.arange(len(Y)) % 3 == 0, Y.roll(1), Y)

    def of_probabilities(p: Tensor, y: Tensor) -> Tensor:
        return F.nll_loss(p.clamp_min(1e-9).log(), y)

    loop = Loop(network(nn.Linear(32, 32), nn.ReLU()), targets=noisy, loss_of=of_probabilities)
    loop.model.append(nn.Softmax(1))  # type: ignore[operator]
    assert loop.run(epochs=15)[0].cause == HEALTHY


def test_dead_units_are_not_told_by_single_examples() -> None:
    class Single(Loop):
        @staticmethod
        def batches() -> Sequence[Tensor]:
            return torch.randperm(len(X))[:400].split(1)

    noisy = torch.where(torch.arange(len(Y)) % 3 == 0, Y.roll(1), Y)
    model = network(hidden=128)
    found = Single(model, torch.optim.SGD(model.parameters(), 0.01), targets=noisy).run(epochs=3)
    assert "dead_units" not in [finding.cause for finding in found]


def test_a_generator_that_is_looked_at_in_training_mode_is_not_scored() -> None:
    """As the usual adversarial loop does: no figure of held-out examples comes of it."""
    model = network(nn.Dropout(0.2))
    loop = Loop(model)
    with loop.watch as watch:
        for _ in range(4):
            for rows in loop.batches():
                loop.step(rows, True, 1, None, ())
            with torch.no_grad():
                model(X)
            watch.epoch(train_loss=0.1)
    assert loop.watch._meter.notes.scored_in_training == 0


def test_scoring_with_gradients_and_in_training_mode_is_named() -> None:
    model = network(nn.Dropout(0.2))
    loop = Loop(model)
    with loop.watch as watch:
        for _ in range(4):
            for rows in loop.batches():
                loop.step(rows, True, 1, None, ())
            watch.epoch(valid_loss=float(F.cross_entropy(model(X), Y).detach()))
    assert loop.watch.diagnose().findings[0].cause == "dropout_in_evaluation"
