"""Watching leaves a loop as it is, whatever its network and its code are like."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import danlu
from danlu.diagnosis.watching import Watch
from danlu.errors import ModelError, RunNotice
from danlu.train.probes.guest_hooks import nothing

CLASSES = 3


def examples(n: int = 96, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 12, generator=g)
    return x, (x @ torch.randn(12, CLASSES, generator=g)).argmax(1)


class TwiceActivated(nn.Module):
    """One activation, at two widths."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 32), nn.Linear(32, 16)
        self.last, self.act = nn.Linear(16, CLASSES), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        out: Tensor = self.last(self.act(self.second(self.act(self.first(x)))))
        return out


class Experts(nn.Module):
    """The second expert gets no example."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(12, CLASSES), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        return torch.cat((self.one(x), self.other(x[:0])))


class OfTokens(nn.Module):
    """Its embedding has sparse gradients, and comes last."""

    def __init__(self, sparse: bool = True) -> None:
        super().__init__()
        self.last = nn.Linear(8, CLASSES)
        self.embedding = nn.Embedding(50, 8, sparse=sparse)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        tokens = (x.abs() * 10).long().clamp(max=49)
        out: Tensor = self.last(self.embedding(tokens).mean(1))
        return out


class OfSparse(nn.Module):
    """Reads sparse matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(0.1 * torch.randn(12, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        out: Tensor = torch.sparse.mm(x, self.w)
        return out


class Complex(nn.Module):
    """Has weights with imaginary parts."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(0.1 * torch.randn(12, CLASSES, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        return (x.to(torch.complex64) @ self.w).abs()


class Attentive(nn.Module):
    """Has attention, which nothing taps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(1, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        h = self.first(x.unsqueeze(2))
        out: Tensor = self.last(self.attention(h, h, h)[0].mean(1))
        return out


def a_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def trained(model: nn.Module, steps: int = 6, **given: int) -> Watch:
    """A few steps under the watch."""
    x, y = examples()
    is_sparse = isinstance(model, OfSparse)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with danlu.watch(model, optimizer, classes=CLASSES, every=1, **given) as watched:
        for _ in range(steps):
            watched.step(a_step(model, optimizer, x.to_sparse() if is_sparse else x, y))
    return watched


@pytest.mark.parametrize("kind", [TwiceActivated, Experts, OfTokens, OfSparse, Complex, Attentive])
def test_unusual_networks_are_measured_without_a_word(kind: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watched = trained(kind())
        watched.diagnose().to_json()
    frame = watched.measurements
    assert np.isfinite(frame[frame.layer == ""].gradient_norm).all()


def test_a_layer_that_is_called_again_is_measured_apart() -> None:
    frame = trained(TwiceActivated()).measurements
    assert {"act", "act:2"} <= set(frame.layer)
    assert "dead" in frame and np.isfinite(frame[frame.layer == "act:2"].dead).all()


def test_sparse_gradients_that_are_added_to_are_looked_at() -> None:
    model = OfTokens()
    x, y = examples()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with danlu.watch(model, optimizer, classes=CLASSES) as watched:
        for _ in range(4):
            for half in x.chunk(2):
                F.cross_entropy(model(half), y[: len(half)]).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            watched.step(1.0)
    assert watched._meter.notes.zeroed == 2  # steps 0 and 3 are measured


def test_a_fault_of_measuring_is_said_once_and_ends_no_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("nobody thought of that")

    monkeypatch.setattr("danlu.train.probes.taps.LayerTap.value", broken)
    model = TwiceActivated()
    with pytest.warns(RunNotice, match="could not measure the layer first: nobody thought") as told:
        watched = trained(model)
    assert len(told) == 1
    assert watched.diagnose().findings
    assert len(watched._meter.losses) == 6


def test_copies_and_files_of_a_watched_network_are_not_watched() -> None:
    x, y = examples()
    model = TwiceActivated()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    file = io.BytesIO()
    with danlu.watch(model, optimizer, classes=CLASSES, every=1) as watched:
        watched.step(a_step(model, optimizer, x, y))
        best = copy.deepcopy(model)
        torch.save(model, file)
        best(1000 * x)
        watched.step(a_step(model, optimizer, x, y))
    frame = watched.measurements
    assert frame[frame.layer == "first"].activation_rms.max() < 10
    file.seek(0)
    for other in (best, torch.load(file, weights_only=False)):
        assert torch.isfinite(other(x)).all()
        hooks = [hook for m in other.modules() for hook in m._forward_hooks.values()]
        assert set(hooks) <= {nothing}
        pickle.dumps(other)


def test_diagnosing_leaves_modes_buffers_and_generators_as_they_were() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.first = nn.BatchNorm1d(12), nn.Linear(12, 16)
            self.last = nn.Linear(16, CLASSES)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            out: Tensor = self.last(F.dropout(self.first(self.norm(x)).relu(), 0.3))
            return out

    x, y = examples()
    model = Noisy()
    model.norm.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with danlu.watch(model, optimizer, classes=CLASSES) as watched:
        for _ in range(3):
            watched.step(a_step(model, optimizer, x, y))
            modes = [m.training for m in model.modules()]
            state = copy.deepcopy(model.state_dict())
            drawn = torch.get_rng_state()
            causes = [finding.cause for finding in watched.diagnose().findings]
            assert "dropout_in_evaluation" in causes
            assert [m.training for m in model.modules()] == modes
            assert torch.equal(torch.get_rng_state(), drawn)
            for name, tensor in model.state_dict().items():
                assert torch.equal(tensor, state[name]), name


def test_diagnosing_between_passes_does_not_spoil_the_backward_one() -> None:
    x, y = examples()
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with danlu.watch(model, optimizer, classes=CLASSES) as watched:
        watched.step(a_step(model, optimizer, x, y))
        loss = F.cross_entropy(model(x), y)
        watched.diagnose()
        loss.backward()


def test_memory_does_not_grow_for_ever() -> None:
    model = nn.Linear(2, 2)
    with danlu.watch(model, None, every=1) as watched:
        for _ in range(2500):
            watched.step(0.5)
    steps = watched.measurements.step
    assert len(steps) <= 402
    assert set(np.diff(steps[steps > 30])) == {watched._meter.every} == {8}
    assert len(watched._meter.losses) == 2500


def test_a_lost_loss_is_no_divergence_and_lost_weights_are() -> None:
    x, y = examples()
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with danlu.watch(model, optimizer, classes=CLASSES) as watched:
        for k in range(200):
            loss = a_step(model, optimizer, x, y)
            watched.step(loss * float("nan") if k == 2 else loss)
        assert watched.diagnose().is_healthy
        with torch.no_grad():
            model[0].weight.fill_(float("nan"))
        watched.step(a_step(model, optimizer, x, y))
    assert not watched.diagnose().is_healthy


def test_gradients_of_closures_are_those_of_the_step() -> None:
    x, y = examples()
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with danlu.watch(model, optimizer, classes=CLASSES, every=1) as watched:
        for _ in range(3):
            loss = optimizer.step(closure)
            assert loss is not None
            watched.step(loss)
    frame = watched.measurements
    whole = frame[frame.layer == ""]
    # Plain SGD: an update is the rate times the gradient.
    assert whole.update_norm.to_numpy() == pytest.approx(0.5 * whole.gradient_norm.to_numpy())


def test_percentages_are_read_as_such_and_that_is_said() -> None:
    x, y = examples()
    model = TwiceActivated()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with danlu.watch(model, optimizer, classes=CLASSES) as watched:
        for _ in range(40):
            watched.step(a_step(model, optimizer, x, y))
        watched.epoch(val_acc=0.9)  # per cent, too
        with pytest.warns(RunNotice, match=r"accuracy is 9\d\.\d, so .* percentage.* 0\.9"):
            watched.epoch(train_acc=98.5, val_acc=97.9)
        watched.epoch(train_acc=98.5, val_acc=97.9)
    causes = [finding.cause for finding in watched.diagnose().findings]
    assert not {"overfitting", "train_test_shift"} & set(causes)
    assert watched.history[-1]["valid_accuracy"] == 97.9
    assert watched._history_in_shares()[0]["valid_accuracy"] == pytest.approx(0.009)


def test_settings_are_checked() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ModelError, match="`every` is 'x'"):
        danlu.watch(model, None, every="x")  # type: ignore[arg-type]
    danlu.watch(model, None, classes=np.int64(10))  # type: ignore[arg-type]


def test_layers_that_were_not_seen_at_some_steps_are_no_trouble() -> None:
    x, y = examples()
    model = Attentive()
    model.attention.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with danlu.watch(model, optimizer, classes=CLASSES, every=1) as watched:
        for k in range(6):
            model.attention.requires_grad_(k > 2)
            watched.step(a_step(model, optimizer, x, y))
    watched.diagnose()
