"""Commands that train many networks and say what follows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from danlu.cli.opening import (
    Mistakes,
    for_json,
    former_names_said,
    notices_said,
    read_grid,
    read_inputs,
    with_run_folders,
)
from danlu.cli.options import (
    Device,
    Json,
    Overrides,
    Probes,
    Ray,
    RecipeName,
    Source,
    Trust,
    with_loading_options,
)
from danlu.cli.results import finish_comparison, finish_study, finish_tuning
from danlu.cli.streams import outlast_readers
from danlu.errors import DanluError, wrong

if TYPE_CHECKING:
    from danlu.runs import Study

Explain = Annotated[
    bool, typer.Option("--explain", help="Say how the networks are trained together, and why.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Begin even more than 1,000 trainings.")]
StudyFolder = Annotated[Path | None, typer.Option(help="The study's folder.")]
GridTexts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FIELD=A,B,…",
        help="Values to compare, such as optimizer=sgd,adam; "
        "lists in brackets: model.hidden=[64],[100,100].",
    ),
]
SpaceTexts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FIELD=LOW..HIGH[:log]|A,B,…",
        help="What to search, such as optimizer.lr=1e-5..1e-1:log model.hidden=32,64; "
        "one value fixes a field.",
    ),
]


@with_loading_options
def compare(
    source: Source,
    grid: GridTexts = None,
    recipe: RecipeName = None,
    seeds: Annotated[
        int | None, typer.Option(help="Trainings of every variant; default: 10.")
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(help="The variant that the others are held against; default: the first."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="valid_accuracy, valid_f1 (of entities), valid_loss, test_accuracy, …"),
    ] = None,
    interval: Annotated[str, typer.Option(help="t (Student) or bca (bootstrap).")] = "t",
    until: Annotated[
        int | None,
        typer.Option(
            help="Instead of --seeds: add seeds, up to that many, until every question is settled."
        ),
    ] = None,
    yes: Yes = False,
    out: StudyFolder = None,
    device: Device = "auto",
    probes: Probes = "off",
    ray: Ray = None,
    explain: Explain = False,
    trust: Trust = False,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """Train variants with the same seeds; say which are better, worse, or not shown to differ."""

    outlast_readers()
    data, base, variants = read_grid(source, loading, recipe, grid, trust)
    from danlu import study
    from danlu.report.terminal.study_progress import study_progress

    comparison = study.compare(
        data,
        variants,
        recipe=base,
        seeds=seeds,
        control=control,
        metric=metric,
        interval=interval,
        until=until,
        yes=yes,
        out=out,
        device=device,
        probes=probes,
        listener=for_json(lambda: study_progress(explain), json),
        ray=ray,
    )
    finish_comparison(comparison, json)


@with_loading_options
def tune(
    source: Source,
    space: SpaceTexts = None,
    recipe: RecipeName = None,
    trials: Annotated[int, typer.Option(help="Trials of a round.")] = 100,
    rounds: Annotated[
        int, typer.Option(help="After each round ranges are narrowed to where the best five lie.")
    ] = 1,
    strategy: Annotated[str, typer.Option(help="random, halving or bayes.")] = "random",
    metric: Annotated[
        str | None,
        typer.Option(help="valid_accuracy, valid_r2, valid_f1 (of entities), valid_loss."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL; default: SQLite in the study's folder.")
    ] = None,
    yes: Yes = False,
    name: Annotated[
        str | None,
        typer.Option(help="Name within the storage: machines that name the same share the trials."),
    ] = None,
    out: StudyFolder = None,
    device: Device = "auto",
    probes: Probes = "off",
    ray: Ray = None,
    explain: Explain = False,
    trust: Trust = False,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """Search for the recipe that does best on the validation part; the test part is read once."""
    outlast_readers()
    data, base, texts = _read_search(source, loading, recipe, space, trust)
    from danlu import study
    from danlu.report.terminal.console import say
    from danlu.report.terminal.study_progress import study_progress

    tuning = study.tune(
        data,
        texts,
        recipe=base,
        trials=trials,
        rounds=rounds,
        strategy=strategy,
        metric=metric,
        seed=seed,
        storage=storage,
        name=name,
        yes=yes,
        out=out,
        device=device,
        probes=probes,
        listener=for_json(lambda: study_progress(explain), json),
        report=None if json else say,
        ray=ray,
    )
    finish_tuning(tuning, json)


def _read_search(
    source: str,
    loading: dict[str, Any],
    recipe: str | None,
    space: list[str] | None,
    trust: bool,
) -> tuple[Any, Any, list[str]]:
    """Return data, recipe and the texts of the space. Raises DanluError with all mistakes."""
    from danlu.study import space as spaces

    mistakes = Mistakes()
    texts: list[str] = []
    data, base = read_inputs(source, loading, recipe, [], mistakes, trust)
    with mistakes, former_names_said():
        texts = with_run_folders(space)
        spaces.parse(texts)
    mistakes.refuse()
    return data, base, texts


@with_loading_options
def ensemble(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE|STUDY",
            help="Data to train on; or a finished study, whose best networks are averaged.",
        ),
    ],
    overrides: Overrides = None,
    recipe: RecipeName = None,
    members: Annotated[int, typer.Option(help="How many networks are averaged.")] = 5,
    out: StudyFolder = None,
    device: Device = "auto",
    trust: Trust = False,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """Average several networks: trained with different seeds, or the best of a study."""
    from danlu import study
    from danlu.cli.opening import study_path
    from danlu.cli.results import finish_ensemble
    from danlu.report.terminal.study_progress import study_progress
    from danlu.runs import Study

    outlast_readers()
    path = study_path(source)
    if path is not None:
        if overrides or recipe:
            raise DanluError("a study has its own recipes; leave out fields and --recipe")
        found = study.ensemble(Study(path, trust), members=members, out=out)
    else:
        mistakes = Mistakes()
        data, chosen = read_inputs(source, loading, recipe, overrides, mistakes, trust)
        mistakes.refuse()
        found = study.ensemble(
            chosen,
            data,
            members=members,
            out=out,
            device=device,
            listener=for_json(study_progress, json),
        )
    finish_ensemble(found, json)


@with_loading_options
def decompose(
    source: Source,
    grid: GridTexts = None,
    recipe: RecipeName = None,
    replicates: Annotated[int, typer.Option(help="Training sets that are drawn.")] = 50,
    vary: Annotated[
        str, typer.Option(help="What differs between networks: data, seed or both.")
    ] = "both",
    part: Annotated[
        str | None, typer.Option(help="On which they are judged: valid or test.")
    ] = None,
    yes: Yes = False,
    out: StudyFolder = None,
    device: Device = "auto",
    trust: Trust = False,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """Measure bias, variance and noise over resampled training sets, against any field."""
    from danlu import study
    from danlu.cli.results import finish_decomposition
    from danlu.report.terminal.study_progress import study_progress

    outlast_readers()
    data, base, variants = read_grid(source, loading, recipe, grid, trust)
    found = study.decompose(
        base,
        data,
        variants,
        replicates=replicates,
        vary=vary,
        part=part,
        yes=yes,
        out=out,
        device=device,
        listener=for_json(study_progress, json),
    )
    finish_decomposition(found, json)


def write_study_report(study: Study) -> Path:
    """Write the page of a finished study anew. Raises RunError where it can have none."""
    from danlu.errors import RunError
    from danlu.report.pages.study_page import write_study
    from danlu.study.kinds import open_finished

    path = study.path
    if study.status != "finished":
        raise RunError(
            f"{str(path)!r} is {study.status}; only a finished study has a report "
            "(danlu resume goes on)"
        )
    found = open_finished(study)
    if found is None:
        raise RunError(
            f"{str(path)!r} is neither comparison nor search, and has no report; "
            f"of a member: danlu report {path}:0"
        )
    return write_study(found)


def resume_study(
    study: Study,
    checkpoint_every: float,
    storage: str | None,
    probes: str | None,
    ray: str | None,
    json: bool,
) -> None:
    """Go on with a study of whatever kind, and print what follows."""
    from danlu.report.terminal.console import say
    from danlu.report.terminal.study_progress import study_progress
    from danlu.study.folds import KIND
    from danlu.study.resuming import continue_study

    options: dict[str, Any] = {
        "listener": for_json(study_progress, json),
        "checkpoint_every": checkpoint_every,
    }
    if study.info["kind"] != KIND:
        options["ray"] = ray
    if study.info["kind"] == "tune":
        options["report"] = None if json else say
        options["storage"] = storage
    elif storage is not None:
        rule = "needs a search: nothing else has a storage"
        raise DanluError(wrong("storage", storage, rule, "leave it out"))
    with notices_said():
        found = continue_study(study, probes=probes, **options)
    finish_study(found, json)
