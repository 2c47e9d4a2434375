"""How often a treatment claims a gain where there is none.

    python benchmarks/false_gains.py [--repeats 4] [--keep FOLDER] [--seconds 20]

The healthy controls of `clinic/patients.py`, treated twice:

- as they are. The diagnosis should find nothing, and nothing should be tried.
- as if the diagnosis had prescribed edits that are as good as none: the rate changed by a thousandth
  or less, and noise of a thousandth of the inputs' spread, which no text has. Trainings drift apart
  by these, and the figures are real, so whatever is called a gain is a false one. (A batch smaller
  by one is no such edit: of 16 it makes 7 % more updates, which showed.) A round promises at most
  2.5 %. Repeats differ by their seeds. Controls whose first such treatment takes longer than
  `--seconds` are left out of further ones.

MNIST, Fashion-MNIST and CIFAR-10 are looked for in DANLU_DATA.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from clinic.patients import HEALTHY, Patient, patients
from measure import machine
from patients import trained

from danlu import Data, Recipe, Run, Treatment, treat
from danlu.diagnosis import Diagnosis, Finding
from danlu.diagnosis.finding import Prescription, edits
from danlu.errors import Interrupted
from danlu.statistics import wilson_interval


def as_good_as_none(recipe: Recipe, is_text: bool) -> Diagnosis:
    """Return a diagnosis that prescribes what changes nothing but luck."""
    lr = recipe.optimizer.lr
    assert lr is not None  # of every control
    texts = [f"optimizer.lr={factor * lr!r}" for factor in (1.001, 0.999, 1.0005, 0.9995)]
    if not is_text:
        texts[2:] = ["augment.noise=0.001", "augment.noise=0.0005"]
    prescriptions = [Prescription("lower_rate", edits(text)) for text in texts]
    figures = {"update_ratio": 0.1, "growth": 1.0}
    return Diagnosis([Finding("lr_too_high", 0.5, figures, prescriptions)])


def treated(run: Run, data: Data, diagnosis: Diagnosis | None) -> Treatment:
    """Treat a run, by its own diagnosis or a given one."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patches:
        if diagnosis is not None:
            place = "danlu.study.treating.treat.diagnose"
            patches.enter_context(patch(place, lambda *_: diagnosis))
        return treat(run, data, rounds=1, out=Path(folder) / "t")


def with_seed(patient: Patient, repeat: int, folder: Path) -> Run:
    """Return a control's training with the seeds of a repeat."""
    changes = (*patient.changes, f"seed={100 * repeat}") if repeat else patient.changes
    variant = f"{patient.variant} repeat {repeat}" if repeat else patient.variant
    return trained(Patient(HEALTHY, patient.base, changes, variant=variant), folder)


def shams(controls: list[Patient], repeats: int, folder: Path, most: float) -> Iterator[bool]:
    """Yield for each treatment by edits as good as none whether it claims a gain.

    most: seconds of a treatment from which a control is left out of further repeats.
    """
    slow = set()
    for repeat in range(repeats):
        for control in controls:
            if control.name in slow:
                continue
            run, data = with_seed(control, repeat, folder), control.data()
            began = time.perf_counter()
            found = treated(run, data, as_good_as_none(run.recipe, data.schema.is_text))
            if time.perf_counter() - began > most:
                slow.add(control.name)
            if found.helped:
                print(f"{control.name}, repeat {repeat}: {found.gain}", file=sys.stderr, flush=True)
            yield found.helped


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--keep", type=Path, help="where trained patients are kept")
    parser.add_argument("--seconds", type=float, default=20.0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    controls = [patient for patient in patients() if patient.cause == HEALTHY]
    as_they_are: list[bool] = []
    by_sham: list[bool] = []
    with (
        contextlib.suppress(KeyboardInterrupt, Interrupted),
        tempfile.TemporaryDirectory() as temporary,
    ):
        folder = asked.keep or Path(temporary)
        for control in controls:
            as_they_are.append(treated(trained(control, folder), control.data(), None).helped)
        for claimed in shams(controls, asked.repeats, folder, asked.seconds):
            by_sham.append(claimed)
    print(f"{machine()}, torch {torch.__version__}\n")
    print("| the healthy controls, treated | gains claimed |")
    print("|---|---|")
    print(f"| as they are | {sum(as_they_are)} of {len(as_they_are)} |")
    false, n = sum(by_sham), len(by_sham)
    low, high = wilson_interval(false / max(1, n), max(1, n))
    share = f"{false / max(1, n):.1%}, 95 % interval {low:.1%} to {high:.1%}"
    print(f"| with edits that are as good as none | {false} of {n} ({share}) |")


if __name__ == "__main__":
    main()
