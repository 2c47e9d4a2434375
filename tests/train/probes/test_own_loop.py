"""Probes in a plain PyTorch loop: what they find, and that they change nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.errors import ModelError
from danlu.runs.measurements import WHOLE, as_frame
from danlu.train.probes.own_loop import LoopMeter


def network(recurrent: bool) -> nn.Module:
    torch.manual_seed(0)
    if recurrent:
        return Reader()
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(6, 3))


class Reader(nn.Module):
    """An LSTM over numbers, with a functional activation that overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 5, batch_first=True)
        self.out = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x.view(len(x), 2, 2))
        return self.out(torch.relu_(states[:, -1].clone()))  # type: ignore[no-any-return]


def train(model: nn.Module, measured: bool, steps: int = 8) -> tuple[LoopMeter, list[Tensor]]:
    """A loop with an evaluation pass after each step; return also the batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    meter = LoopMeter(model, optimizer, every=4)
    if measured:
        meter.start()
    g = torch.Generator().manual_seed(1)
    batches = []
    torch.manual_seed(2)
    for _ in range(steps):
        x, y = torch.randn(10, 4, generator=g), torch.randint(3, (10,), generator=g)
        batches.append((x, y))
        model.train()
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        meter.step(loss)
        model.eval()
        with torch.no_grad():
            model(x)
    meter.stop()
    return meter, batches


def table(meter: LoopMeter) -> pd.DataFrame:
    return as_frame(meter.found.table_of_run())


@pytest.mark.parametrize("recurrent", [False, True])
def test_training_is_the_same_to_the_last_bit(recurrent: bool) -> None:
    plain, looked_at = network(recurrent), network(recurrent)
    train(plain, measured=False)
    meter, _ = train(looked_at, measured=True)
    for a, b in zip(plain.parameters(), looked_at.parameters(), strict=True):
        assert torch.equal(a, b)
    assert sorted(table(meter)["step"].unique()) == [0, 3, 4]
    assert not [m for m in looked_at.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_figures_are_those_of_the_step() -> None:
    model = network(recurrent=False)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    meter, batches = train(model, measured=True, steps=1)
    x, y = batches[0]
    naive = network(recurrent=False)
    torch.manual_seed(2)
    naive.train()
    hidden = naive[0](x)  # type: ignore[index]
    hidden.retain_grad()
    loss = F.cross_entropy(naive[3](naive[2](torch.relu(hidden))), y)  # type: ignore[index]
    loss.backward()  # type: ignore[no-untyped-call]
    rows = table(meter).set_index("layer")
    first = rows.loc["0"]
    assert first["activation_rms"] == pytest.approx(float(hidden.square().mean().sqrt()), rel=1e-5)
    own = hidden.grad * 10  # of each example
    assert first["output_gradient"] == pytest.approx(float(own.norm(dim=1).square().mean().sqrt()))
    grad = naive[0].weight.grad  # type: ignore[index]
    assert first["weight_gradient"] == pytest.approx(float(grad.norm()), rel=1e-5)
    change = dict(model.named_parameters())["0.weight"] - start["0.weight"]
    ratio = float(change.norm() / start["0.weight"].norm())
    assert first["update_ratio"] == pytest.approx(ratio, rel=1e-4)
    never = (torch.relu(hidden) == 0).all(0).float().mean()
    assert rows.loc["1", "dead"] == pytest.approx(float(never))
    grads = [p.grad for p in naive.parameters()]
    total = np.sqrt(sum(float(g.square().sum()) for g in grads if g is not None))
    assert rows.loc[WHOLE, "gradient_norm"] == pytest.approx(total, rel=1e-5)


def test_without_an_optimiser_layers_are_measured_all_the_same() -> None:
    model = network(recurrent=False)
    meter = LoopMeter(model, None, every=1)
    meter.start()
    F.cross_entropy(model(torch.randn(5, 4)), torch.zeros(5, dtype=torch.long)).backward()  # type: ignore[no-untyped-call]
    meter.step(1.0)
    rows = table(meter)
    assert rows["activation_rms"].notna().sum() == 3
    assert "update_ratio" not in rows


def test_what_cannot_be_watched_is_refused() -> None:
    for arguments in (
        ("model", None, 10),
        (nn.Linear(1, 1), "sgd", 10),
        (nn.Linear(1, 1), None, 0),
    ):
        with pytest.raises(ModelError, match="must be"):
            LoopMeter(*arguments)  # type: ignore[arg-type]
