"""`danlu.watch`: measurements and diagnosis of a training loop that is not danlu's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from danlu import metrics
from danlu.diagnosis.diagnosing import Diagnosis, diagnose_evidence
from danlu.diagnosis.evidence import Evidence, Measured
from danlu.diagnosis.network_checks import NetworkEvidence, units_are_alike
from danlu.diagnosis.settings import Settings
from danlu.errors import ModelError, RunNotice, nearest, notify, wrong
from danlu.files import to_parquet, write
from danlu.runs.measurements import NAME as MEASUREMENTS
from danlu.runs.measurements import as_frame
from danlu.train.probes.own_loop import LoopMeter

if TYPE_CHECKING:
    import pandas as pd

_FIRST = 10  # steps, whose losses are near that of a constant answer
# What others call the parts, and the figures of an epoch.
_PARTS = {**{part: part for part in metrics.PARTS}, "val": "valid", "validation": "valid"}
_HELD_OUT = ("valid_", "test_")
_SHARES = ("accuracy", "balanced_accuracy", "f1", "macro_f1", "auc", "average_precision")
EPOCH_FIGURES = (
    "lr",
    *(f"{part}_{name}" for part in metrics.PARTS for name in ("n", *metrics.METRICS)),
)


class Watch:
    """A training loop under observation; made by `watch`."""

    def __init__(self, meter: LoopMeter, classes: int | None, chance: float | None) -> None:
        self._meter = meter
        self._classes = classes
        self._chance = chance
        self._began_alike = units_are_alike(meter.model)
        self._history: list[dict[str, float]] = []
        self._in_percent: set[str] = set()  # figures that were told so
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
        """Note the end of a step: after `optimizer.step()`, with the step's loss.

        Raises ModelError for what is not one number.
        """
        is_one = loss.numel() == 1 if isinstance(loss, Tensor) else _number(loss) is not None
        if not is_one:
            shown = tuple(loss.shape) if isinstance(loss, Tensor) else loss
            rule = "must be one number: the loss of the step"
            raise ModelError(wrong("loss", shown, rule, "try loss.mean()"))
        self._meter.step(loss)

    def epoch(self, **figures: float) -> None:
        """Note the end of an epoch, with whatever is known of it.

        Figures by danlu's names, such as valid_loss, valid_accuracy and train_loss, or as others
        call them (val_loss, val_acc); others are kept, and not read. The rate is the optimiser's.
        Raises ModelError for what is not a number.
        """
        row = _named(figures)
        self._note_percentages(row)
        self._meter.epoch(any(name.startswith(_HELD_OUT) for name in row))
        rate = self._settings().lr
        if rate is not None:
            row.setdefault("lr", rate)
        self._history.append({"epoch": self._meter.epochs, "step": self._meter.steps, **row})

    def _note_percentages(self, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            is_share = name.partition("_")[2] in _SHARES and name in EPOCH_FIGURES
            if is_share and 1 < value <= 100 and name not in self._in_percent:
                self._in_percent.add(name)
                notify(
                    f"{name} is {value:g}, so it is read as a percentage; "
                    f"as a share it would be {value / 100:g}",
                    RunNotice,
                )

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
        """Return what is wrong, as far as it can be seen without recipe and data.

        Where neither `classes` nor `chance` is known, what is left to learn is told by the loss
        that the loop began with.
        """
        with self._meter.resting():
            return diagnose_evidence(self._evidence())

    def _evidence(self) -> Evidence:
        losses = self._meter.losses
        history = self._history_in_shares()
        observed = self._settings()
        # Schedules change the rate: what the training was like is told by the highest.
        rates = [
            self._start.lr,
            *self._meter.notes.rates.values(),
            *(row.get("lr") for row in history),
        ]
        known = [rate for rate in rates if rate is not None and math.isfinite(rate)]
        return Evidence(
            history,
            self._result(losses, history),
            Measured(self._meter.found.table_of_run().to_pydict()),
            class_counts=[1] * (self._classes or 0),
            diverged_at=self._diverged_at(losses),
            network=self._network(),
            constant_loss=self._constant_loss(losses),
            is_chance_guessed=self._classes is None and self._chance is None,
            unmoved=self._meter.unmoved,
            matrices=self._meter.matrices,
            loop=self._meter.notes,
            step_losses=losses,
            observed=replace(observed, lr=max(known, default=None)),
        )

    def _diverged_at(self, losses: list[float]) -> int | None:
        """Return the step from which no loss, or no weight, is finite any more."""
        finite = [k for k, loss in enumerate(losses) if math.isfinite(loss)]
        last = finite[-1] + 1 if finite else 0
        weights = self._meter.model.parameters()
        if all(nn.parameter.is_lazy(p) or bool(p.isfinite().all()) for p in weights):
            return last if last < len(losses) else None
        return min(last, max(0, len(losses) - 1))

    def _history_in_shares(self) -> list[dict[str, float]]:
        """Return what `epoch` was told, percentages as shares."""
        return [
            {
                name: value / 100 if name in self._in_percent else value
                for name, value in row.items()
            }
            for row in self._history
        ]

    def _settings(self) -> Settings:
        """Return those of the moment."""
        meter = self._meter
        return Settings.of_loop(meter.model, meter.optimizer, meter.batch_size)

    def _network(self) -> NetworkEvidence | None:
        """Return the module with some of the last batch it was called with."""
        inputs = self._meter.inputs
        if inputs is None:
            return None
        return NetworkEvidence.of_module(self._meter.model, inputs, self._began_alike)

    def _constant_loss(self, losses: list[float]) -> float | None:
        """Return the loss of a constant answer, None where classes tell it."""
        if self._classes is not None or self._chance is not None:
            return self._chance
        finite = [loss for loss in losses[:_FIRST] if math.isfinite(loss) and loss > 0]
        return float(np.median(finite)) if finite else None

    def _result(self, losses: list[float], history: list[dict[str, float]]) -> dict[str, float]:
        """Return the figures of the end: those of the last epoch, or the last losses' mean."""
        result = dict(history[-1]) if history else {}
        late = [loss for loss in losses[-max(1, len(losses) // 10) :] if math.isfinite(loss)]
        if late and "train_loss" not in result:
            result["train_loss"] = sum(late) / len(late)
        weights = [p for p in self._meter.model.parameters() if not nn.parameter.is_lazy(p)]
        parameters = sum(p.numel() for p in weights if p.requires_grad)
        return {**result, "steps": len(losses), "parameters": parameters}


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    classes: int | None = None,
    every: int = 100,
    chance: float | None = None,
) -> Watch:
    """Watch a training loop of your own, in a `with` block; nothing of it changes by a bit.

    classes: how many there are, by which the loss of chance is known. chance: that loss, where it
    is another: of the best constant answer, such as the variance of the targets for a squared
    error. every: steps between two measurements, beside the first few. Call `step(loss)` after each
    `optimizer.step()`, and `epoch(valid_loss=…)` after each epoch where you know such figures.
    Raises ModelError for what is no module or no optimiser of PyTorch.
    """
    mistakes = []
    if classes is not None and (not isinstance(classes, Integral) or classes < 2):
        mistakes.append(wrong("classes", classes, "must be the number of classes", "try 10"))
    known = None if chance is None else _number(chance)
    if chance is not None and not (known is not None and 0 < known < math.inf):
        rule = "must be the loss of the best constant answer, above 0"
        mistakes.append(wrong("chance", chance, rule, "try the variance of the targets"))
    if mistakes:
        raise ModelError(*mistakes)
    return Watch(
        LoopMeter(model, optimizer, every), None if classes is None else int(classes), known
    )


def _number(value: object) -> float | None:
    """Return a number or a tensor of one as a number, and None for anything else."""
    if isinstance(value, (str, bool)):
        return None
    # PyTorch warns where a tensor with a gradient is read as a number.
    value = value.detach() if isinstance(value, Tensor) else value
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        return None


def _named(figures: Mapping[str, Any]) -> dict[str, float]:
    """Return figures of an epoch by danlu's names. Raises ModelError with all mistakes."""
    read = {given: _number(value) for given, value in figures.items()}
    numbers = {given: number for given, number in read.items() if number is not None}
    if bad := [given for given in figures if given not in numbers]:
        raise ModelError(*(wrong(given, figures[given], "must be a number") for given in bad))
    row = {}
    for given, number in numbers.items():
        name = name_of_figure(given)
        near = nearest(given, EPOCH_FIGURES)
        if name is None and near is not None:
            notify(f"the diagnosis reads no figure {given!r}; did you mean {near!r}?", RunNotice)
        row[name or given] = number
    return row


def name_of_figure(given: str) -> str | None:
    """Return danlu's name of what others call val_loss or train/acc; None for no figure."""
    if given == "lr":
        return given
    part, _, figure = given.replace("/", "_").partition("_")
    name = f"{_PARTS.get(part)}_{metrics.canonical(figure)}"
    return name if name in EPOCH_FIGURES else None
