"""`danlu.watch`: measurements and diagnosis of a training loop that is not danlu's."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from danlu.diagnosis.diagnosing import Diagnosis, diagnose_evidence
from danlu.diagnosis.evidence import Evidence, Measured
from danlu.diagnosis.network_checks import NetworkEvidence
from danlu.diagnosis.settings import Settings
from danlu.errors import ModelError, wrong
from danlu.files import to_parquet, write
from danlu.runs.measurements import NAME as MEASUREMENTS
from danlu.runs.measurements import as_frame
from danlu.train.probes.own_loop import LoopMeter

if TYPE_CHECKING:
    import pandas as pd


class Watch:
    """A training loop under observation; made by `watch`."""

    def __init__(self, meter: LoopMeter, classes: int | None) -> None:
        self._meter = meter
        self._classes = classes
        self._history: list[dict[str, float]] = []
        # As it begins: schedules change the rate.
        self._start = self._settings()

    def __enter__(self) -> Watch:
        self._meter.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._meter.stop()

    def step(self, loss: Tensor | float) -> None:
        """Note the end of a step: after `optimizer.step()`, with the step's loss."""
        self._meter.step(loss)

    def epoch(self, **figures: float) -> None:
        """Note the end of an epoch, with whatever is known of it.

        Figures by danlu's names: valid_loss, valid_accuracy, train_loss, train_accuracy, … The rate
        is the optimiser's.
        """
        self._meter.epochs += 1
        row = {name: float(value) for name, value in figures.items()}
        rate = self._settings().lr
        if rate is not None:
            row.setdefault("lr", rate)
        self._history.append({"epoch": self._meter.epochs, "step": self._meter.steps, **row})

    @property
    def history(self) -> list[dict[str, float]]:
        """What `epoch` was told, a row each."""
        return list(self._history)

    @property
    def measurements(self) -> pd.DataFrame:
        """What was measured, as `Run.measurements`."""
        return as_frame(self._meter.found.table_of_run())

    def save(self, folder: str | Path) -> Path:
        """Write what was measured into a folder as measurements.parquet; return the file."""
        path = Path(folder) / MEASUREMENTS
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, to_parquet(self._meter.found.table_of_run()))
        return path

    def diagnose(self) -> Diagnosis:
        """Return what is wrong, as far as it can be seen without recipe and data."""
        losses = [float(loss) for loss in self._meter.losses]
        diverged = next((k for k, loss in enumerate(losses) if not math.isfinite(loss)), None)
        evidence = Evidence(
            self._history,
            self._result(losses),
            Measured(self._meter.found.table_of_run().to_pydict()),
            class_counts=[1] * (self._classes or 0),
            diverged_at=diverged,
            network=self._network(),
            observed=replace(self._settings(), lr=self._start.lr),
        )
        return diagnose_evidence(evidence)

    def _settings(self) -> Settings:
        """Return those of the moment."""
        meter = self._meter
        return Settings.of_loop(meter.model, meter.optimizer, meter.batch_size)

    def _network(self) -> NetworkEvidence | None:
        """Return the module with some of the last batch it was called with."""
        inputs = self._meter.inputs
        if inputs is None:
            return None
        return NetworkEvidence.of_module(self._meter.model, inputs)

    def _result(self, losses: list[float]) -> dict[str, float]:
        """Return the figures of the end: those of the last epoch, or the last losses' mean."""
        result = dict(self._history[-1]) if self._history else {}
        if losses and "train_loss" not in result:
            late = losses[-max(1, len(losses) // 10) :]
            result["train_loss"] = sum(late) / len(late)
        return {**result, "steps": len(losses)}


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    classes: int | None = None,
    every: int = 100,
) -> Watch:
    """Watch a training loop of your own, in a `with` block; nothing of it changes by a bit.

    classes: how many there are, by which the loss of chance is known. every: steps between two
    measurements, beside the first few. Call `step(loss)` after each `optimizer.step()`, and
    `epoch(valid_loss=…)` after each epoch where you know such figures. Raises ModelError for what
    is no module or no optimiser of PyTorch.
    """
    if classes is not None and (not isinstance(classes, int) or classes < 1):
        raise ModelError(wrong("classes", classes, "must be the number of classes", "try 10"))
    return Watch(LoopMeter(model, optimizer, every), classes)
