"""Commands that train one network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from danlu.cli.opening import Mistakes, for_json, notices_said, open_run, read_inputs, study_path
from danlu.cli.options import (
    CheckpointEvery,
    Device,
    Json,
    Overrides,
    Probes,
    Ray,
    RecipeName,
    RunPath,
    Source,
    Trust,
    with_loading_options,
)
from danlu.cli.results import finish_run
from danlu.cli.streams import outlast_readers
from danlu.errors import DanluError, wrong

if TYPE_CHECKING:
    from danlu.data import Data
    from danlu.recipe import Recipe


@with_loading_options
def fit(
    source: Source,
    overrides: Overrides = None,
    recipe: RecipeName = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="The figure that counts, for early stopping too: accuracy, macro_f1, auc, mae, …"
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Cross-validation: as many networks, each trained without its fold."),
    ] = None,
    device: Device = "auto",
    probes: Probes = "light",
    checkpoint_every: CheckpointEvery = 5.0,
    trust: Trust = False,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """Train one network on a source and report what it reached."""
    outlast_readers()
    # Source and recipe are both read before either is refused.
    mistakes = Mistakes()
    data, chosen = read_inputs(source, loading, recipe, overrides, mistakes, trust)
    mistakes.refuse()
    if metric is not None:
        chosen = _stopping_by(metric, chosen, overrides or [], data)
    from danlu import train
    from danlu.report.terminal.progress import best_progress

    if not json:
        _announce(data, chosen)
    if folds is not None:
        options = {
            "out": out,
            "device": device,
            "probes": probes,
            "checkpoint_every": checkpoint_every,
        }
        _cross_validate(data, chosen, folds, metric, json, options)
        return
    run = train.fit(
        chosen,
        data,
        out=out,
        device=device,
        metric=metric,
        probes=probes,
        listener=for_json(best_progress, json),
        checkpoint_every=checkpoint_every,
    )
    finish_run(run, json, data)


def _cross_validate(
    data: Data,
    recipe: Recipe,
    folds: int,
    metric: str | None,
    json: bool,
    options: dict[str, Any],
) -> None:
    from danlu.cli.results import finish_folds
    from danlu.report.terminal.study_progress import study_progress
    from danlu.study.folds import cross_validate

    found = cross_validate(
        recipe,
        data,
        folds=folds,
        metric=metric,
        listener=for_json(study_progress, json),
        **options,
    )
    finish_folds(found, json)


def _stopping_by(metric: str, recipe: Recipe, overrides: list[str], data: Data) -> Recipe:
    """Return the recipe with that figure for early stopping, unless one is named."""
    from danlu.metrics import canonical

    stopping = recipe.early_stopping
    is_default = stopping.metric == type(stopping).model_fields["metric"].default
    is_named = not is_default or any("early_stopping.metric" in text for text in overrides)
    name = canonical(metric)
    # A figure that these data have not is refused by the name that was typed.
    if not stopping.patience or is_named or not data.schema.has_metric(name):
        return recipe
    return recipe.with_(**{"early_stopping.metric": name})


def _announce(data: Data, recipe: Recipe) -> None:
    """Print what is going to be trained on what."""
    from danlu.data.parts import TITLES
    from danlu.report.terminal.console import say

    sizes = ", ".join(f"{data.size(part):,} {title}" for part, title in TITLES.items())
    shape = "×".join(map(str, data.schema.input_shape))
    say(f"{recipe.model.name} on {data.source['source']}: {sizes} examples of {shape}")


def resume(
    run: RunPath,
    checkpoint_every: CheckpointEvery = 5.0,
    trust: Trust = False,
    storage: Annotated[
        str | None, typer.Option(help="URL of a search's storage, where it is not in its folder.")
    ] = None,
    probes: Annotated[
        str | None, typer.Option(help="What is measured from here on: off, light or full.")
    ] = None,
    ray: Ray = None,
    json: Json = False,
) -> None:
    """Go on with an interrupted or killed run or study, to the same weights as without a break."""
    from danlu import train
    from danlu.report.terminal.progress import best_progress

    outlast_readers()
    path = study_path(run)
    if path is not None:
        from danlu.cli.study import resume_study
        from danlu.runs import Study

        # A study is known by its folder, so one command goes on with either.
        resume_study(Study(path, trust), checkpoint_every, storage, probes, ray, json)
        return
    for name, value in (("ray", ray), ("storage", storage)):
        if value is not None:
            rule = "needs a study: a single run is trained here"
            raise DanluError(wrong(name, value, rule, f"leave out --{name}"))
    with notices_said():
        finished = train.resume(
            open_run(run, trust),
            probes=probes,
            listener=for_json(best_progress, json),
            checkpoint_every=checkpoint_every,
        )
    finish_run(finished, json)
