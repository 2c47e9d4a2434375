"""`compare`: variants of a recipe, each trained with the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from danlu.data import PARTS, Data, load
from danlu.errors import DanluError, Mistake, RecipeError, some, unknown, wrong
from danlu.guest import guest
from danlu.models.given import Network, name_of
from danlu.recipe import Recipe
from danlu.runs import Study, folder
from danlu.runs.measurements import OFF
from danlu.statistics import INTERVALS, looks
from danlu.study import grid as grids
from danlu.study.comparison import Comparison
from danlu.study.cost import MANY, refuse_many
from danlu.study.facts import comparison_facts
from danlu.study.grid import Grid, Variant
from danlu.study.metric import mistakes_in as mistakes_in_metric
from danlu.study.metric import note_on_default, resolve
from danlu.train import (
    CHECKPOINT_EVERY,
    StudyListener,
    extend,
    mistakes_in,
    resume_study,
    train,
)

SEEDS = 10
_MOST_VARIANTS = 10_000  # that could still be listed
_TOO_FEW = Mistake(
    "the grid has one variant, but a comparison needs two; write, for example, optimizer=sgd,adam"
)


@guest
def compare(
    data: Any,
    grid: Grid | Sequence[str] = (),
    *,
    models: Mapping[str, Network | str] | None = None,
    recipe: Recipe | None = None,
    seeds: int | None = None,
    control: str | None = None,
    metric: str | None = None,
    interval: str = "t",
    until: int | None = None,
    yes: bool = False,
    out: str | Path | None = None,
    device: str = "auto",
    probes: str = OFF,
    listener: StudyListener | None = None,
    ray: str | None = None,
) -> Comparison:
    """Train every combination of values with the same seeds; compare each with the control.

    data: what `load` returns, or takes.
    grid: values by field, such as {"optimizer": ["sgd", "adam"]}, or texts such as
        "optimizer=sgd,adam".
    models: networks by a name of yours, as another field of the grid: modules, functions that make
        one, or names of the zoo. A module begins every training with the weights it has, so seeds
        differ in the order of the examples alone; a function draws new ones.
    seeds: trainings of every variant (10).
    control: the variant the others are compared with (default: the first).
    metric: a figure such as accuracy, macro_f1, auc, mae or loss, of the validation part where
        there is one, or with its part, test_auc (unasked: what suits the task, and the data where
        classes are imbalanced); or epochs. The test part is read only for a metric of it.
    interval: "t" (Student) or "bca" (bootstrap).
    until: instead of seeds, go on adding them, up to that many, until every question is settled;
        the chance of a false claim stays below 5 % all the same.
    yes: begin even more than 1,000 trainings.
    probes: what is measured of every network, as of `fit`.
    ray: address of a Ray cluster to train on.

    Raises RecipeError for what cannot be compared, before anything is trained, and what `train`
    raises.
    """
    data = data if isinstance(data, Data) else load(data)
    grid, names = _with_models(grid, models)
    note = note_on_default(metric, data)
    metric = resolve(metric, data, ("valid", "test"))
    mistakes = _option_mistakes(data, seeds, metric, interval, until)
    variants, chosen = _settle(data, grid, recipe or Recipe(), control, mistakes, names)
    most = until or seeds or SEEDS
    if not yes:
        _refuse_too_many(variants, most, data, "cpu" if ray else device)
    facts = {
        "control": chosen,
        "metric": metric,
        "metric_note": note,
        "interval": interval,
        "until": until,
        "names": names,
    }
    # A comparison that may end early begins with the seeds of its first look.
    first_end = looks(most)[0] if until else most
    study = train(
        _replicates([variant.recipe for variant in variants], 0, first_end),
        data,
        out=out,
        device=device,
        # A test part that is read while choosing is no test part any more.
        parts=PARTS if metric.startswith("test") else ("train", "valid"),
        listener=listener,
        facts={**_facts_of(variants), **facts},
        probes=probes,
        ray=ray,
    )
    return continue_comparison(study, data, listener=listener, ray=ray)


def _with_models(
    grid: Grid | Sequence[str], models: Mapping[str, Network | str] | None
) -> tuple[Grid | Sequence[str], dict[str, str]]:
    """Return the grid with networks as a field, and their names by what a recipe has for them."""
    if models is None:
        return grid, {}
    values = dict(grid) if isinstance(grid, Mapping) else grids.parse(grid)
    if "model" in values or "model.name" in values:
        raise RecipeError("`model` is given twice: in the grid, and by models=…; leave out one")
    if not isinstance(models, Mapping):
        raise RecipeError(
            '`models` must name its networks: models={"mine": network, "zoo": "dense"}'
        )
    paths = {}
    for name, network in models.items():
        paths[name] = network if isinstance(network, str) else name_of(network)
    if len(set(paths.values())) < len(paths):
        raise RecipeError("`models` has one network under two names; leave out one of them")
    # First, so that variants are listed network by network.
    return {"model.name": list(paths.values()), **values}, {p: name for name, p in paths.items()}


def _facts_of(variants: Sequence[Variant]) -> dict[str, Any]:
    """Return what study.json says of the variants; a comparison is over when all is trained."""
    values = []
    for variant in variants:
        values.append([list(pair) for pair in variant.values])
    return {"kind": "compare", "over": False, "variants": values}


def _refuse_too_many(variants: Sequence[Variant], most: int, data: Data, device: str) -> None:
    """Raise RecipeError, with what it would cost, for more trainings than one begins unasked."""
    trainings = len(variants) * most
    if trainings <= MANY:
        return
    # The cost is taken from about five variants.
    every = math.ceil(len(variants) / 5)
    sampled = [variant.recipe for variant in variants[::every]]
    samples = _replicates(sampled, 0, min(most, 10))
    what = f"the grid has {len(variants):,} variants, with {most:,} seeds"
    refuse_many(what, samples, trainings, data, device)


@guest
def continue_comparison(
    study: Study,
    data: Data | None = None,
    *,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    ray: str | None = None,
) -> Comparison:
    """Go on with a comparison: train what is missing.

    With `until`, add seeds while a question is open.
    """
    options: Any = {"listener": listener, "checkpoint_every": checkpoint_every, "ray": ray}
    with folder.locked(study.path):
        comparison_facts(study)
        study.check_trust()
        # After a crash; with `until`, the figures so far may already settle it.
        if not study.trained:
            study = resume_study(study, data, **options)
        until = study.info["until"]
        while until:
            comparison = Comparison(study)
            if comparison.settled or comparison.seeds >= until:
                break
            if data is None:
                data = study.load_data()
            end = next(n for n in looks(until) if n > comparison.seeds)
            first_replicate = study.recipes[: len(comparison.names)]
            more = _replicates(first_replicate, comparison.seeds, end)
            study = extend(study, more, data, **options)
        study.sealed.update(over=True)
        return Comparison(study)


def _settle(
    data: Data,
    grid: Grid | Sequence[str],
    recipe: Recipe,
    control: str | None,
    mistakes: list[Mistake],
    names: Mapping[str, str],
) -> tuple[list[Variant], int]:
    """Return the variants, and the number of the control.

    mistakes: those that are known already. names: of networks, by what the recipe has for them.
    Raises RecipeError with all.
    """
    variants: list[Variant] = []
    chosen = 0
    try:
        values = grid if isinstance(grid, Mapping) else grids.parse(grid)
        # Before the grid is expanded, which would take all memory.
        _refuse_endless(values)
        variants = grids.expand(values, recipe, names)
        if len(variants) < 2:
            mistakes.append(_TOO_FEW)
        if control is not None:
            chosen = grids.find(control, variants)
    except DanluError as e:
        mistakes += e.mistakes
    if not mistakes:
        mistakes += _mistakes_of_variants(variants, data)
    if mistakes:
        raise RecipeError(*mistakes)
    return variants, chosen


def _mistakes_of_variants(variants: Sequence[Variant], data: Data) -> list[Mistake]:
    """Return why variants cannot be trained on the data, each mistake with whose it is."""
    recipes = [variant.recipe for variant in variants]
    mistakes = []
    for mistake, numbers in mistakes_in(recipes, data).items():
        if len(numbers) < len(variants):
            names = some([variants[i].name for i in numbers])
            mistake = mistake.with_note(f"(variant {names})")
        mistakes.append(mistake)
    return mistakes


def _refuse_endless(grid: Grid) -> None:
    """Raise RecipeError for a grid that could not even be listed."""
    variants = 1
    for values in grid.values():
        if isinstance(values, (list, tuple)):
            variants *= len(values)
    if variants > _MOST_VARIANTS:
        raise RecipeError(
            f"the grid has {variants:,} variants, but must have at most {_MOST_VARIANTS:,}; "
            "danlu tune searches larger spaces"
        )


def _replicates(recipes: Sequence[Recipe], start: int, end: int) -> list[Recipe]:
    """Return the recipes with further seeds: seed by seed, every variant."""
    replicates = []
    for replicate in range(start, end):
        for recipe in recipes:
            # Equal seeds in all variants: luck is the same, and cancels in the difference.
            changes: dict[str, Any] = {"seed": recipe.seed + replicate}
            if any(other.sample.share < 1 for other in recipes):
                # Which examples a share holds is luck as well, and each replicate draws its own.
                changes["sample.seed"] = recipe.sample.seed + replicate
            replicates.append(recipe.with_(**changes))
    return replicates


def _option_mistakes(
    data: Data,
    seeds: int | None,
    metric: str,
    interval: str,
    until: int | None,
) -> list[Mistake]:
    mistakes = []
    if seeds is not None and seeds < 2:
        rule = "must be at least 2: one training shows no spread"
        mistakes.append(wrong("seeds", seeds, rule, "try 10"))
    if until is not None and until < 2:
        mistakes.append(wrong("until", until, "must be at least 2", "try 40"))
    if seeds is not None and until is not None:
        rule = f"must stand alone, and `seeds` is {seeds}"
        mistakes.append(wrong("until", until, rule, "leave one out"))
    if interval not in INTERVALS:
        mistakes.append(unknown("interval", interval, INTERVALS))
    mistakes += mistakes_in_metric(metric, data, ("valid", "test", "train"), ("epochs",))
    return mistakes
