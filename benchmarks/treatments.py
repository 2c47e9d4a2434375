"""How often the first treatment helps the curable patients, beside a random search with as many trainings.

    python benchmarks/treatments.py [--half tuning|report] [--keep FOLDER] [--only CAUSE] [--kind KIND] [--misses]

Every patient of `clinic/patients.py` that an edit can cure is treated (`danlu.treat`, one round, five seeds). The
treatment helps where the interval of its gain, on seeds by which nothing was chosen, lies above 0. A patient is cured
where at least half of the gap to the healthy training of its data is closed, by the mean over five seeds more, which
no treatment and no search has seen.

The random search draws recipes over the fields that rules prescribe, one seed each. Both curves ask the same question:
after so many trainings, the control's among them, which recipe looks best by these trainings, and is the patient cured
with it? Its answer is judged on the same seeds, whose trainings are not counted. MNIST and Fashion-MNIST are
looked for in DANLU_DATA.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from clinic.patients import BASES, HEALTHY, Patient, patients
from measure import machine
from patients import trained

from danlu import Data, Recipe, Treatment, treat
from danlu.errors import DanluError, Interrupted
from danlu.runs.members import figure_of
from danlu.study.treating.gains import Scale
from danlu.train import mistakes_in
from danlu.train.dispatch.train import train

CHECKPOINTS = (5, 10, 20, 30, 40)
LONGEST = 60  # seconds of a treatment beside which a search is run
# What rules prescribe, as a search without a diagnosis would have to draw it.
SPACE: dict[str, list[Any]] = {
    "optimizer.lr": [10 ** (k / 4) for k in range(-20, 1)],
    "batch_size": [16, 32, 64, 128],
    "init.name": ["auto", "he", "glorot", "orthogonal"],
    "init.bias": [0.0],
    "schedule.name": ["constant", "cosine"],
    "clip.norm": [0.0, 1.0],
    "penalty.l1": [0.0],
    "penalty.l2": [0.0, 1.0],
    "early_stopping.patience": [0, 5],
    "loss.label_smoothing": [0.0, 0.1],
    "loss.class_weights": ["none", "balanced"],
    "model.activation": ["relu", "leaky-relu", "tanh"],
    "model.batch_norm": ["none", "before"],
    "model.dropout": [0.0, 0.2],
    "normalize": ["zscore", "clipped"],
}


@dataclass
class Outcome:
    """How a patient fared: treated, and searched for; judged figures by trainings spent."""

    patient: Patient
    helped: bool
    sick: float
    healthy: float
    best: float
    trainings: int
    seconds: float
    treated: dict[int, float] = field(default_factory=dict)
    searched: dict[int, float] = field(default_factory=dict)

    def is_cured(self, figure: float) -> bool:
        """Whether half of the gap is closed."""
        return figure - self.sick >= 0.5 * (self.healthy - self.sick)


def mean_figure(recipe: Recipe, data: Data, scale: Scale, seeds: list[int]) -> float:
    """The mean validation figure over seeds, higher being better."""
    with tempfile.TemporaryDirectory() as folder:
        replicates = [recipe.with_(seed=seed) for seed in seeds]
        study = train(
            replicates,
            data,
            out=Path(folder) / "s",
            parts=("train", "valid"),
            facts={"metric": scale.metric},
        )
        figures = [scale.settle(figure_of(result, scale.metric)) for result in study.results]
    return (1 if scale.higher_is_better else -1) * sum(figures) / len(figures)


class Judge:
    """Figures of recipes on fresh seeds, each trained once."""

    def __init__(self, data: Data, scale: Scale, seeds: list[int]) -> None:
        self.data, self.scale, self.seeds = data, scale, seeds
        self.known: dict[str, float] = {}

    def __call__(self, recipe: Recipe) -> float:
        key = recipe.model_dump_json()
        if key not in self.known:
            self.known[key] = mean_figure(recipe, self.data, self.scale, self.seeds)
        return self.known[key]


def leader(found: Treatment, spent: int) -> Recipe:
    """The recipe that looks best by the first trainings of a treatment: the patient's where none gains."""
    patient, trained = found.patient_recipe, found.trained
    if not found.rounds:
        return patient
    first = found.rounds[0]

    def is_there(recipe: Recipe, seed: int) -> bool:
        return trained.has(recipe.with_(seed=seed)) and trained.member(recipe, seed) < spent

    best, most = patient, 0.0
    for candidate in [*first.candidates, *(first.pairs or ())]:
        changed = candidate.apply(patient)
        seeds = [s for s in first.screening if is_there(changed, s) and is_there(patient, s)]
        if not seeds:
            continue
        ours, theirs = (
            [found.scale.settle(x) for x in trained(r, seeds)] for r in (changed, patient)
        )
        gain = sum(found.scale.gains(ours, theirs)) / len(seeds)
        if gain > most:
            best, most = changed, gain
    return best


def search(patient: Patient, data: Data, scale: Scale, judge: Judge) -> dict[int, float]:
    """The figure of the best of a random search after so many trainings."""
    rng = random.Random(patient.name)
    drawn: list[Recipe] = []
    while len(drawn) < CHECKPOINTS[-1]:
        changes = {path: rng.choice(values) for path, values in SPACE.items()}
        recipe = patient.recipe()
        for path, value in changes.items():
            with contextlib.suppress(DanluError):  # a field that this network does not have
                changed = recipe.with_(**{path: value})
                if not mistakes_in([changed], data):
                    recipe = changed
        drawn.append(recipe)
    with tempfile.TemporaryDirectory() as folder:
        facts = {"metric": scale.metric}
        study = train(drawn, data, out=Path(folder) / "s", parts=("train", "valid"), facts=facts)
        sign = 1 if scale.higher_is_better else -1
        scores = [sign * scale.settle(figure_of(r, scale.metric)) for r in study.results]
    return {n: judge(drawn[max(range(n), key=lambda i: scores[i])]) for n in CHECKPOINTS}


def examine(patient: Patient, folder: Path, searches: bool) -> Outcome:
    """Treat a patient; search with as many trainings."""
    data = patient.data()
    run = trained(patient, folder)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        found: Treatment = treat(run, data, rounds=1, budget="10m", out=Path(place) / "t")
        seconds = time.perf_counter() - start
        scale = found.scale
        judge = Judge(data, scale, list(range(1000, 1005)))
        sick, best = judge(patient.recipe()), judge(found.best)
        trainings = found.trainings
        treated, searched = {}, {}
        if searches and seconds < LONGEST:
            treated = {n: judge(leader(found, n)) for n in CHECKPOINTS}
            searched = search(patient, data, scale, judge)
    healthy = judge(BASES[patient.base].recipe)
    return Outcome(
        patient, found.helped, sick, healthy, best, trainings, seconds, treated, searched
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("tuning", "report"), default="report")
    parser.add_argument("--keep", type=Path, help="where trained patients are kept")
    parser.add_argument("--only", help="patients of this cause")
    parser.add_argument("--kind", choices=("dense", "conv", "recurrent"), help="such networks")
    parser.add_argument("--misses", action="store_true", help="name those that were not helped")
    parser.add_argument("--no-search", action="store_true", help="leave out the random search")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen = []
    for patient in patients():
        is_asked = patient.is_for_tuning == (asked.half == "tuning")
        if asked.only:
            is_asked = is_asked and patient.cause == asked.only
        if asked.kind:
            is_asked = is_asked and BASES[patient.base].kind == asked.kind
        if patient.cause != HEALTHY and patient.curable and is_asked:
            chosen.append(patient)
    # The longest last, so that Ctrl-C leaves a table of most.
    chosen.sort(key=lambda patient: patient.recipe().epochs)
    outcomes = []
    with (
        contextlib.suppress(KeyboardInterrupt, Interrupted),
        tempfile.TemporaryDirectory() as temporary,
    ):
        for patient in chosen:
            outcome = examine(patient, asked.keep or Path(temporary), not asked.no_search)
            outcomes.append(outcome)
            is_missed = not (outcome.helped and outcome.is_cured(outcome.best))
            if asked.misses and is_missed:
                print(line_of(outcome), flush=True)
            spent = (
                f"{outcome.trainings} trainings, {outcome.seconds:.0f} s, "
                f"by treatment {outcome.treated}, by search {outcome.searched}"
            )
            print(f"{len(outcomes)} {line_of(outcome)}, {spent}", file=sys.stderr, flush=True)
    print(f"{len(outcomes)} of {len(chosen)} patients\n")
    report(outcomes, asked.half)


def line_of(o: Outcome) -> str:
    """A patient in figures."""
    figures = f"{o.sick:.4f} → {o.best:.4f} (healthy {o.healthy:.4f})"
    return f"{o.patient.name}: helped {o.helped}, {figures}"


def report(outcomes: list[Outcome], half: str) -> None:
    """Print how many were helped and cured, and both curves."""
    n = len(outcomes)
    helped = sum(o.helped for o in outcomes)
    cured = sum(o.is_cured(o.best) and o.helped for o in outcomes)
    seconds = sorted(o.seconds for o in outcomes)[n // 2] if n else math.nan
    print(f"{machine()}, torch {torch.__version__}\n")
    print(
        f"half {half}: {n} curable patients, helped {helped} ({helped / n:.0%}), cured {cured} ({cured / n:.0%}), "
    )
    print(f"median {seconds:.1f} s a treatment\n")
    both = [o for o in outcomes if o.searched]
    print(f"Beside a random search, the {len(both)} whose treatment took less than {LONGEST} s:\n")
    print("| trainings spent | cured by treatment | cured by random search |")
    print("|---|---|---|")
    for spent in CHECKPOINTS:
        treated = sum(o.is_cured(o.treated[spent]) for o in both)
        searched = sum(o.is_cured(o.searched[spent]) for o in both)
        print(f"| {spent} | {treated} of {len(both)} | {searched} of {len(both)} |")


if __name__ == "__main__":
    main()
