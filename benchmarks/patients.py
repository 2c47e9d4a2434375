"""How good the diagnosis is: trainings made sick on purpose, and healthy controls.

    python benchmarks/patients.py [--keep FOLDER] [--misses]

Every patient has one planted cause (`clinic/patients.py`). Half of them, by a digest of their names, served to
tune the rules, and the other half only reports. Top-1: the planted cause is the root that is named first; top-2: or it is the second
finding, or what the first is said to explain first. A false alarm: anything but healthy for a control.
Each diagnosis gets the data, as a user's own training would. MNIST and Fashion-MNIST are looked for in DANLU_DATA.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import torch
from clinic.patients import HEALTHY, Patient, patients
from measure import machine

from danlu import Run, diagnose, fit
from danlu.errors import Diverged

HALVES = {True: "for tuning", False: "only to report"}


def trained(patient: Patient, folder: Path) -> Run:
    """Train a patient, unless that was done."""
    path = folder / patient.name.replace("/", "__").replace(" ", "_")
    # One that was kept may be of an earlier recipe.
    if (path / "run.json").exists() and Run(path, trust=True).recipe != patient.recipe():
        shutil.rmtree(path)
    if not (path / "run.json").exists():
        # What a training that diverged left is what is diagnosed.
        with contextlib.suppress(Diverged):
            fit(patient.recipe(), patient.data(), out=path)
    return Run(path, trust=True)  # networks of `clinic/networks.py`


def examine(folder: Path) -> tuple[dict[bool, Counter[str]], list[str]]:
    """Diagnose everyone; return counts by half, and what was missed."""
    counts: dict[bool, Counter[str]] = defaultdict(Counter)
    misses = []
    for patient in patients():
        run = trained(patient, folder)
        start = time.perf_counter()
        findings = diagnose(run, patient.data()).findings
        half = counts[patient.is_for_tuning]
        half["seconds"] += time.perf_counter() - start
        kind = "healthy" if patient.cause == HEALTHY else "sick"
        named = [finding.cause for finding in findings]
        half[kind] += 1
        half[f"{kind}, top 1"] += named[0] == patient.cause
        half[f"{kind}, top 2"] += patient.cause in (*named[:2], *findings[0].also[:1])
        if named[0] != patient.cause:
            misses.append(f"{HALVES[patient.is_for_tuning]}: {patient.name}: {', '.join(named)}")
    return counts, misses


def share(half: Counter[str], figure: str, of: str) -> str:
    """Return a share as people read it."""
    return f"{half[figure]} of {half[of]} ({100 * half[figure] / max(1, half[of]):.0f} %)"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="where trained patients are kept")
    parser.add_argument("--misses", action="store_true", help="name the patients that were missed")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        counts, misses = examine(asked.keep or Path(temporary))
    print(f"{machine()}\n")
    print("| half | sick: top 1 | top 2 | healthy: flagged | ms a diagnosis |")
    print("|---|---|---|---|---|")
    for is_for_tuning, name in HALVES.items():
        half = counts[is_for_tuning]
        half["flagged"] = half["healthy"] - half["healthy, top 1"]
        everyone = half["sick"] + half["healthy"]
        print(
            f"| {name} | {share(half, 'sick, top 1', 'sick')} | {share(half, 'sick, top 2', 'sick')} "
            f"| {share(half, 'flagged', 'healthy')} | {1000 * half['seconds'] / everyone:.0f} |"
        )
    if asked.misses:
        print("\n" + "\n".join(misses))


if __name__ == "__main__":
    main()
