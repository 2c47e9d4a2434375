"""Commands that train many networks and say what follows."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import typer

from danlu.cli.options import (
    Json,
    Ray,
    RecipeName,
    Source,
    from_runs,
    gather,
    load_source,
    read_recipe,
    reads,
)

Explain = Annotated[
    bool, typer.Option("--explain", help="Say how the networks are trained together, and why.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Begin even more than 1,000 trainings.")]


@reads
def compare(
    source: Source,
    grid: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FIELD=A,B,…",
            help="Values to compare, such as optimizer=sgd,adam; lists in brackets: model.hidden=[64],[100,100].",
        ),
    ] = None,
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
    out: Annotated[Path | None, typer.Option(help="The study's folder.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    ray: Ray = None,
    explain: Explain = False,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """Train every combination of the values with the same seeds; say which are better, worse, or not shown to differ."""
    from danlu.study import grid as grids

    held: dict[str, Any] = {}
    found = gather(
        data=lambda: held.setdefault("data", load_source(source, loading)),
        recipe=lambda: read_recipe(recipe, [], source, held.get("data")),
        grid=lambda: grids.parse(from_runs(grid)),
    )
    from danlu import study
    from danlu.report.terminal.study_progress import study_progress

    done = study.compare(
        found["data"], found["grid"], recipe=found["recipe"], seeds=seeds, control=control, metric=metric, interval=interval,
        until=until, yes=yes, out=out, device=device, listener=None if json else study_progress(explain), ray=ray,
    )  # fmt: skip
    finish_comparison(done, json)


@reads
def tune(
    source: Source,
    space: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FIELD=LOW..HIGH[:log]|A,B,…",
            help="What to search, such as optimizer.lr=1e-5..1e-1:log model.hidden=32,64; one value fixes a field.",
        ),
    ] = None,
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
    out: Annotated[Path | None, typer.Option(help="The study's folder.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    ray: Ray = None,
    explain: Explain = False,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """Search for the recipe that does best on the validation part; the test part is read once, for the winner."""
    from danlu.study import space as spaces

    held: dict[str, Any] = {}
    found = gather(
        data=lambda: held.setdefault("data", load_source(source, loading)),
        recipe=lambda: read_recipe(recipe, [], source, held.get("data")),
        space=lambda: spaces.parse(held.setdefault("space", from_runs(space))),
    )
    from danlu import study
    from danlu.report.terminal.console import say
    from danlu.report.terminal.study_progress import study_progress

    done = study.tune(
        found["data"], held["space"], recipe=found["recipe"], trials=trials, rounds=rounds, strategy=strategy,
        metric=metric, seed=seed, storage=storage, name=name, yes=yes, out=out, device=device,
        listener=None if json else study_progress(explain), told=None if json else say, ray=ray,
    )  # fmt: skip
    finish_tuning(done, json)


def finish_tuning(done: Any, json: bool) -> None:
    """Report, the best five, verdict."""
    from danlu.report.pages.tune_page import print_tuning, write_tuning
    from danlu.report.terminal.console import say

    path = write_tuning(done)
    if json:
        print(jsonlib.dumps(done.to_json(), ensure_ascii=False))
        return
    print_tuning(done)
    best = done.study.path / "best.toml"
    say(f"\nthe winner's recipe: {best}\nreport: {path}" if best.is_file() else f"\nreport: {path}")


def finish_comparison(done: Any, json: bool) -> None:
    """Report, table, verdict."""
    from danlu.report.pages.compare_page import print_comparison, write_comparison
    from danlu.report.terminal.console import say

    path = write_comparison(done)
    if json:
        print(jsonlib.dumps(done.to_json(), ensure_ascii=False))
        return
    print_comparison(done)
    say(f"\nreport: {path}")


def show_study(path: Path, json: bool) -> None:
    """What a study shows, as far as it has got."""
    from danlu.report.terminal.console import say
    from danlu.runs import Study
    from danlu.study import Comparison
    from danlu.study.search import open_tuning

    found = Study(path)
    if found.status == "finished" and found.info["kind"] == "compare":
        finish_comparison(Comparison(found), json)
    elif found.status == "finished" and found.info["kind"] == "tune":
        finish_tuning(open_tuning(found), json)
    elif json:
        print(
            jsonlib.dumps(
                {"study": str(path), **found.info, "members": list(found.members.values())}
            )
        )
    else:
        going_on = "" if found.status == "finished" else f"; go on with: danlu resume {path}"
        say(f"{path}: {found.status}, {len(found.members)} of {len(found)} trained{going_on}")


def report_study(path: Path) -> Path:
    """Write a finished study's page anew."""
    from danlu.errors import RunError
    from danlu.report.pages.compare_page import write_comparison
    from danlu.report.pages.tune_page import write_tuning
    from danlu.runs import Study
    from danlu.study import Comparison
    from danlu.study.search import open_tuning

    found, kind = Study(path), Study(path).info["kind"]
    if found.status != "finished":
        raise RunError(
            f"{str(path)!r} is {found.status}; only a finished study has a report (danlu resume goes on)"
        )
    if kind not in ("compare", "tune"):
        raise RunError(
            f"{str(path)!r} is neither comparison nor search, and has no report; of a member: danlu report {path}:0"
        )
    return (
        write_comparison(Comparison(found))
        if kind == "compare"
        else write_tuning(open_tuning(found))
    )


def go_on(path: Path, trust: bool, checkpoint_every: float, ray: str | None, json: bool) -> None:
    """Resume a study of whatever kind."""
    from danlu.report.terminal.console import say
    from danlu.report.terminal.study_progress import study_progress
    from danlu.runs import Study
    from danlu.study import continue_comparison
    from danlu.train import resume_study

    found = Study(path, trust)
    how: Any = {
        "listener": None if json else study_progress(),
        "checkpoint_every": checkpoint_every,
        "ray": ray,
    }
    if found.info["kind"] == "compare":
        finish_comparison(continue_comparison(found, **how), json)
        return
    if found.info["kind"] == "tune":
        from danlu.study import continue_tuning

        finish_tuning(continue_tuning(found, told=None if json else say, **how), json)
        return
    done = resume_study(found, **how)
    if json:
        print(jsonlib.dumps({"study": str(done.path), "status": done.status, "members": len(done)}))
    else:
        say(f"{done.path}: {len(done)} trained")
