"""Mistakes in the code of a loop are named: what is forgotten, squeezed, cut or begun badly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from diagnosis.loops import Cut, Loop, X, Y, network
from torch import Tensor, nn

import danlu
from danlu.diagnosis.diagnosing import HEALTHY
from danlu.train.probes.loop_notes import LoopNotes


def test_gradients_that_are_kept_are_named() -> None:
    first, *_ = Loop(network()).run(zero=False)
    assert first.cause == "wrong_gradient"
    assert int(first.figures["kept"]) >= 4
    assert first.prescriptions[0].reason == "zero_gradients"


def test_gradients_that_add_up_on_purpose_are_right() -> None:
    loop = Loop(network())
    assert [finding.cause for finding in loop.run(passes=4)] == [HEALTHY]
    assert loop.watch._meter.notes.kept == 0


def test_passes_for_another_loss_keep_nothing() -> None:
    """Of two networks that learn against each other, one's loss reaches the other, too."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with danlu.watch(model, optimizer, classes=10) as watch:
        for rows in torch.randperm(len(X)).split(64):
            model(X[rows]).square().sum().backward()  # the other's
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X[rows]), Y[rows])
            loss.backward()
            optimizer.step()
            watch.step(loss)
    assert watch._meter.notes.kept == 0
    assert watch._meter.notes.zeroed > 2


def test_parameters_that_are_not_the_optimiser_s_keep_what_they_like() -> None:
    model = network()
    loop = Loop(model, torch.optim.Adam(list(model.parameters())[:-1], 3e-3))
    assert "wrong_gradient" not in [finding.cause for finding in loop.run()]


def test_gradients_that_are_asked_for_are_not_kept() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with danlu.watch(model, optimizer, classes=10, every=5) as watch:
        for rows in torch.randperm(len(X)).split(64):
            loss = F.cross_entropy(model(X[rows]), Y[rows])
            asked = torch.autograd.grad(loss, list(model.parameters()))
            for p, g in zip(model.parameters(), asked, strict=True):
                p.grad = g
            optimizer.step()
            watch.step(loss)
    assert watch._meter.notes.kept == 0


def test_gradients_of_a_few_rows_are_measured() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 4, sparse=True), nn.Flatten(), nn.Linear(12, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with danlu.watch(model, optimizer, classes=2) as watch:
        for _ in range(4):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(torch.randint(0, 50, (8, 3))), torch.randint(0, 2, (8,)))
            loss.backward()
            optimizer.step()
            watch.step(loss)
    assert len(watch._meter.notes.norms) == 2
    assert watch.diagnose().findings


def test_passes_for_other_purposes_are_no_scores() -> None:
    """A look at shapes before training, labels of its own within a step, statistics at the end."""
    model = network(nn.Dropout(0.3), nn.BatchNorm1d(32))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    with danlu.watch(model, optimizer, classes=10) as watch:
        with torch.no_grad():
            model(X[:2])
        for _ in range(6):
            for rows in torch.randperm(len(X)).split(32):
                with torch.no_grad():
                    model(X[rows])
                loss = F.cross_entropy(model(X[rows]), Y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watch.step(loss)
            model.eval()
            with torch.no_grad():
                valid = F.cross_entropy(model(X), Y)
            model.train()
            watch.epoch(valid_loss=float(valid))
        with torch.no_grad():
            model(X)
        watch.epoch()
    assert "dropout_in_evaluation" not in [f.cause for f in watch.diagnose().findings]


def test_a_score_in_evaluation_mode_beside_one_of_training_will_do() -> None:
    """The running accuracy is often asked in training mode; what counts is asked after it."""
    model = network(nn.Dropout(0.3))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    with danlu.watch(model, optimizer, classes=10) as watch:
        for _ in range(4):
            for rows in torch.randperm(len(X)).split(32):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(X[rows]), Y[rows])
                loss.backward()
                optimizer.step()
                watch.step(loss)
            for is_training in (True, False):
                model.train(is_training)
                with torch.no_grad():
                    model(X)
            model.train()
            watch.epoch()
    assert watch._meter.notes.scored_in_training == 0


def test_scoring_in_training_mode_is_named() -> None:
    first, *_ = Loop(network(nn.Dropout(0.3))).run(score=True)
    assert first.cause == "dropout_in_evaluation"
    assert first.figures["scored"] == first.figures["epochs"] == 6
    assert "equal calls" not in first.why()
    assert Loop(network(nn.Dropout(0.3))).run(score=False)[0].cause == HEALTHY
    # Nothing differs between the modes.
    assert Loop(network()).run(score=True)[0].cause == HEALTHY


def of_two(out: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(out.squeeze(-1), (y > 4).float())


def of_softmax(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(F.softmax(out, 1), y)


@pytest.mark.parametrize(
    ("loop", "what"),
    [
        (lambda: Loop(network(), loss_of=of_softmax), "softmax"),
        (
            lambda: Loop(
                nn.Sequential(network(outputs=1), nn.Sigmoid()), loss_of=of_two, classes=2
            ),
            "sigmoid",
        ),
    ],
)
def test_what_squeezes_outputs_before_the_loss_is_named(
    loop: Callable[[], Loop], what: str
) -> None:
    first, *_ = loop().run()
    assert first.cause == "wrong_output_layer"
    assert first.figures["what"] == what


def test_plain_outputs_are_not_squeezed() -> None:
    for loss_of in (F.cross_entropy, lambda out, y: F.nll_loss(F.log_softmax(out, 1), y)):
        notes = LoopNotes()
        notes.on_loss(loss_of(network()(X), Y))
        assert notes.squeezed_by is None


@pytest.mark.parametrize(
    ("cut", "size"),
    [
        (lambda model: nn.utils.clip_grad_norm_(model.parameters(), 1e-3), 1e-3),
        (lambda model: nn.utils.clip_grad_value_(model.parameters(), 1e-4), 1e-4),
    ],
)
def test_gradients_of_one_size_are_clipped(cut: Cut, size: float) -> None:
    model = network()
    first, *_ = Loop(model, torch.optim.SGD(model.parameters(), 0.05)).run(cut=cut)
    assert first.cause == "clip_too_tight"
    assert first.figures["clipped_to"] == pytest.approx(size, rel=0.01)


def test_a_clip_is_all_one_to_a_rule_that_divides_by_the_gradient() -> None:
    """Labels that nobody can know, so that much is left to learn."""
    torch.manual_seed(0)
    wrong = torch.rand(len(Y)) < 0.4
    targets = torch.where(wrong, torch.randint(0, 10, Y.shape), Y)
    model = network()
    loop = Loop(model, torch.optim.Adam(model.parameters(), 1e-3), targets=targets)
    found = loop.run(cut=lambda m: nn.utils.clip_grad_norm_(m.parameters(), 0.1))
    assert "clip_too_tight" not in [finding.cause for finding in found]
    assert len(set(map(round, [1000 * norm for norm in loop.watch._meter.notes.norms]))) == 1


@pytest.mark.parametrize(("place", "value"), [(0, -3.0), (2, 25.0)])
def test_initial_biases_that_decide_are_named(place: int, value: float) -> None:
    model = network()
    with torch.no_grad():
        bias = model[place].bias  # the last layer's for one class alone
        bias[: 1 if place == 2 else None] = value  # type: ignore[index, operator]
    first, *_ = Loop(model).run(epochs=2)
    assert first.cause == "init_bias_bad"
    assert first.figures["layer"] == str(place)


class Shifted(nn.Module):
    """Rectifiers out of reach, in a function that no hook sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(F.relu(self.first(x) - 5))
        return out


def test_units_that_let_no_gradient_through_are_dead() -> None:
    first, *_ = Loop(Shifted()).run()
    assert first.cause == "dead_units"
    assert "first" in str(first.figures["silent"])


def test_a_few_large_targets_are_seen_by_their_steps() -> None:
    y = (Y.float() - 4.5) / 2.87
    y[::270] = 900.0

    def loss_of(out: Tensor, targets: Tensor) -> Tensor:
        # Held-out examples are scored without them.
        kept = targets < 100 if len(targets) == len(X) else targets == targets
        return F.mse_loss(out[kept, 0], targets[kept])

    model = network()
    loop = Loop(model, torch.optim.Adam(model.parameters(), 1e-4), loss_of, y, None, 1.0)
    first, *_ = loop.run(score=False)
    assert first.cause == "outliers_in_target"
    assert float(first.figures["largest"]) > 1e4


def test_losses_that_fall_are_no_large_targets() -> None:
    """What can be learnt to rounding leaves early losses thousands of times as large."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 1))
    targets = X @ torch.randn(64)
    loop = Loop(
        model,
        torch.optim.SGD(model.parameters(), 0.05),
        lambda out, y: F.mse_loss(out[:, 0], y),
        targets,
        None,
        float(targets.var()),
    )
    assert "outliers_in_target" not in [f.cause for f in loop.run(score=False)]


class WithSpare(nn.Module):
    """A head that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.spare = network(), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


def test_what_nothing_calls_is_not_dead() -> None:
    torch.manual_seed(0)
    targets = torch.randint(0, 10, Y.shape)
    found = Loop(WithSpare(), targets=targets).run(epochs=2)
    assert "dead_units" not in [finding.cause for finding in found]


@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_decay_is_read_from_the_optimiser(rule: type[torch.optim.Optimizer]) -> None:
    rate, decay = {"SGD": (0.1, 0.3), "Adam": (3e-3, 1.0), "AdamW": (3e-3, 20.0)}[rule.__name__]
    model = network()
    optimizer = rule(model.parameters(), lr=rate, weight_decay=decay)  # type: ignore[call-arg]
    assert Loop(model, optimizer).run()[0].cause == "weight_decay_too_strong"
    model = network()
    optimizer = rule(model.parameters(), lr=rate, weight_decay=1e-4)  # type: ignore[call-arg]
    assert Loop(model, optimizer).run(10)[0].cause == HEALTHY


def test_a_rate_that_falls_within_the_first_epoch_is_seen() -> None:
    rates = [3e-3] * 10 + [1e-6]
    assert Loop(network()).run(rates=rates)[0].cause == "schedule_decays_too_soon"
