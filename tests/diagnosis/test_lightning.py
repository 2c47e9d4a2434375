"""Lightning's trainer under observation: as the plain loop, and nothing of it changes."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from danlu import load
from danlu.errors import ModelError

lightning = pytest.importorskip("lightning.pytorch")
from danlu.diagnosis.lightning import DanluWatch  # noqa: E402


class Digits(lightning.LightningModule):  # type: ignore[misc,name-defined]
    def __init__(self, lr: float) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.lr = lr

    def _loss(self, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.model(x), y)

    def training_step(self, batch: Any, number: int) -> Tensor:
        return self._loss(batch)

    def validation_step(self, batch: Any, number: int) -> None:
        self.log("val_loss", self._loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def loaders() -> list[DataLoader[Any]]:
    data = load("digits")
    found = []
    for part in ("train", "valid"):
        x, y = data.part(part)
        found.append(DataLoader(TensorDataset(x.flatten(1) / 255, y), batch_size=32))
    return found


def trained(
    lr: float, epochs: int = 5, watched: bool = True, kind: Any = Digits, **options: Any
) -> Any:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(0)
    module, callback = kind(lr), DanluWatch(classes=10, every=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback] if watched else [],
            **options,
        )
        trainer.fit(module, *loaders())
    return module, callback


def test_a_healthy_training_is_not_flagged_and_is_measured(tmp_path: Path) -> None:
    module, callback = trained(0.3)
    found = callback.diagnose()
    assert found.is_healthy, found.findings
    assert len(callback.watch.history) == 5
    assert all("valid_loss" in row for row in callback.watch.history)
    assert callback.watch.history[-1]["step"] == 5 * 34
    assert {"0", "1", "2"} <= set(callback.watch.measurements["layer"])
    assert not any(child._forward_hooks for child in module.modules())
    assert callback.watch.save(tmp_path / "w").is_file()


def test_a_rate_that_is_too_high_is_named() -> None:
    _, callback = trained(1000.0, epochs=2)
    assert callback.diagnose().findings[0].cause == "lr_too_high"


def test_nothing_of_the_training_changes() -> None:
    with_watch, _ = trained(0.3, epochs=2)
    without, _ = trained(0.3, epochs=2, watched=False)
    for a, b in zip(with_watch.parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b)


def test_accumulated_batches_are_one_step() -> None:
    _, callback = trained(0.3, epochs=1, accumulate_grad_batches=2)
    assert callback.watch.history[-1]["step"] == 17


def test_before_a_training_there_is_nothing_to_diagnose() -> None:
    with pytest.raises(ModelError, match="call trainer"):
        DanluWatch(classes=10).diagnose()


class WithAccuracies(Digits):
    def training_step(self, batch: Any, number: int) -> Tensor:
        x, y = batch
        out = self.model(x)
        self.log("train_acc", (out.argmax(1) == y).float().mean())
        return F.cross_entropy(out, y)

    def validation_step(self, batch: Any, number: int) -> None:
        x, y = batch
        self.log("val_acc", (self.model(x).argmax(1) == y).float().mean())


class Manual(Digits):
    def __init__(self, lr: float) -> None:
        super().__init__(lr)
        self.automatic_optimization = False

    def training_step(self, batch: Any, number: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self._loss(batch))
        optimizer.step()


def test_logged_accuracies_are_those_of_epochs() -> None:
    _, callback = trained(0.3, kind=WithAccuracies)
    assert {"train_accuracy", "valid_accuracy"} <= set(callback.watch.history[-1])
    callback.diagnose()


def test_manual_optimisation_trains_on_and_is_told() -> None:
    module, callback = trained(0.3, epochs=1, kind=Manual)
    torch.manual_seed(0)
    assert not torch.equal(module.model[0].weight, Manual(0.3).model[0].weight)
    assert callback.watch.history[-1]["step"] == 0
