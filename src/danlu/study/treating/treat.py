"""`treat`: what a diagnosis prescribes, tried against a control until the network is healthy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from danlu.data import Data
from danlu.diagnosis import diagnose
from danlu.errors import (
    DanluError,
    Mistake,
    RecipeError,
    RunError,
    cut_off,
    short_path,
    wrong,
)
from danlu.guest import guest
from danlu.runs import Run, Study, folder
from danlu.study.metric import mistakes_in as mistakes_in_metric
from danlu.study.metric import resolve
from danlu.study.treating.budget import affordable, refuse_small, seconds_of
from danlu.study.treating.candidates import prescribed
from danlu.study.treating.course import Course, screening_seeds
from danlu.study.treating.facts import treatment_facts
from danlu.study.treating.gains import Scale
from danlu.study.treating.treatment import KIND, Treatment
from danlu.train import CHECKPOINT_EVERY, StudyListener, create, resume_study

_MOST_SEEDS = 1000


@guest
def treat(
    run: Run | str | Path,
    data: Any = None,
    *,
    seeds: int = 5,
    budget: str | float = "10m",
    rounds: int = 3,
    metric: str | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    trust: bool = False,
    listener: StudyListener | None = None,
) -> Treatment:
    """Try what the diagnosis of a training prescribes, beside the recipe as it was.

    Each round screens the prescribed edits and promising pairs of them on a few seeds, and confirms
    the best on `seeds` fresh ones (where these leave it open, on as many more; where that fails,
    the second); the next begins from the winner. It ends when nothing is wrong any more, nothing
    helps, or the budget is spent. Judged on the validation part; the test part is read once, at the
    end. The chance that a round claims a false gain is at most 2.5 %, as tests are on seeds that no
    candidate was chosen by. A gain that is shown tends to be a little too large, as one that
    happens to be small is not shown.

    run: a training, or its folder; also interrupted, diverged or running. data: of a run on arrays
    in memory, the same again. budget: how long it may take, such as 10m or 1h30m, or seconds.
    metric: a figure of the validation part (unasked: what suits the task and its classes). out: the
    folder to make. trust: as of `Run`.

    Raises RunError where the data are not at hand, RecipeError for a budget too small for one
    trial and other options, and what `train` raises.
    """
    run = run if isinstance(run, Run) else Run(run, trust)
    data = _data_of(run, data)
    recipe = run.recipe
    recipe.check_trust()
    metric = resolve(metric or run.info.get("metric"), data, ("valid",))
    seconds = _check_options(data, seeds, budget, rounds, metric)
    diagnosis = diagnose(run, data)
    found = prescribed(diagnosis.findings, recipe, data)
    screened = screening_seeds(seeds), seeds
    if found.candidates:
        first = found.candidates[0].apply(recipe)
        if not affordable([first], recipe, screened, data, seconds):
            refuse_small(budget, first, recipe, screened, data)
    facts = {
        "kind": KIND,
        "over": False,
        "patient": short_path(run.path),
        "patient_recipe": recipe.to_dict(),
        "metric": metric,
        "constant": Scale.of(metric, data).constant,
        "seeds": seeds,
        "most_rounds": rounds,
        "budget": seconds,
        "seconds": 0.0,
        "findings": [finding.facts() for finding in diagnosis.findings],
        "rounds_tried": [],
        "unfit": [list(pair) for pair in found.unfit],
        "of_data": [candidate.to_json() for candidate in found.of_data],
        "probes": "light",
    }
    study = create([], data, out, device, ("train", "valid"), facts)
    return continue_treatment(study, data, listener=listener)


def _data_of(run: Run, data: Any) -> Data:
    """Return the data of a run. Raises RunError where they cannot be had."""
    if data is not None:
        given = data if isinstance(data, Data) else run.load_again(data)
        run.check_data(given)
        return given
    try:
        return run.load_data()
    except DanluError as e:
        name = short_path(run.path)
        raise RunError(
            f"{e}; without them nothing can be tried, but what the run measured can still be "
            f"diagnosed: danlu diagnose {name}"
        ) from e


def _check_options(data: Data, seeds: int, budget: str | float, rounds: int, metric: str) -> float:
    """Return the budget in seconds. Raises RecipeError with all mistakes."""
    mistakes: list[Mistake] = []
    if not data.size("valid"):
        mistakes.append(
            Mistake(
                "the data have no validation part, on which edits are judged; train the run again "
                "with one, such as --split 60/20/20"
            )
        )
    if not isinstance(seeds, int) or not 2 <= seeds <= _MOST_SEEDS:
        rule = f"must be a whole number, 2 to {_MOST_SEEDS}: one training shows no spread"
        mistakes.append(wrong("seeds", seeds, rule, "try 5"))
    if not isinstance(rounds, int) or not 1 <= rounds <= 100:
        mistakes.append(wrong("rounds", rounds, "must be a whole number, 1 to 100", "try 3"))
    seconds = 0.0
    try:
        seconds = seconds_of(budget)
    except RecipeError as e:
        mistakes += e.mistakes
    if data.size("valid"):
        mistakes += mistakes_in_metric(metric, data, ("valid",), ())
    if mistakes:
        raise RecipeError(*mistakes)
    return seconds


@guest
def continue_treatment(
    study: Study,
    data: Data | None = None,
    *,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    ray: str | None = None,
) -> Treatment:
    """Go on with a treatment that was interrupted or killed, where it was."""
    options: Any = {"listener": listener, "checkpoint_every": checkpoint_every, "ray": ray}
    with folder.locked(study.path):
        treatment_facts(study)
        study.check_trust()
        if not study.trained:
            study = resume_study(study, data, **options)
        if not study.info["over"]:
            if data is None:
                data = study.load_data()
            try:
                Course(study, data, **options).run()
            except KeyboardInterrupt:  # between two trainings
                raise cut_off(study.way_on) from None
        return Treatment(Study(study.path, study.trust))
