"""Commands that show runs, data and networks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from danlu.cli.opening import load_source, open_run, read_recipe, study_path
from danlu.cli.options import (
    Json,
    Overrides,
    RecipeName,
    RunPath,
    Source,
    Trust,
    with_loading_options,
)
from danlu.cli.results import print_results, show_study
from danlu.errors import DanluError, DataError, short_path
from danlu.report.terminal.json_output import print_json
from danlu.report.terminal.lines import note, tell

if TYPE_CHECKING:
    from danlu.data.sources.inspect import Inspection
    from danlu.runs import Run, Study

_COLUMNS = ("run", "status", "source", "model", "epochs", "figure", "score", "seconds")

Row = dict[str, Any]


def runs(json: Json = False) -> None:
    """List the runs and studies under the runs folder, oldest first."""
    from danlu.report.terminal.console import say, table
    from danlu.runs import Run, Study
    from danlu.runs.folder import runs_root, with_files
    from danlu.runs.study import RECIPES

    entries = []
    # By what is beside it a folder is also known without its index, and told of.
    for kind, others in ((Run, "recipe.toml"), (Study, RECIPES)):
        for path in with_files(None, kind.index, others):
            created, row = _row(kind, path)
            entries.append((created, path.name, row))
    rows = [row for _, _, row in sorted(entries, key=lambda entry: entry[:2])]
    if json:
        for row in rows:
            print_json(row)
    elif rows:
        table(_COLUMNS, [[_shown(value) for value in row.values()] for row in rows])
    else:
        say(f"no run under {runs_root()} yet; train one with: danlu fit digits")


def _row(kind: type[Run | Study], path: Path) -> tuple[float, Row]:
    """Return when a run or study was begun, and what is listed of it.

    A damaged one does not hide the others; what is wrong with it is said on standard error.
    """
    from danlu.runs import Run

    try:
        one = kind(path)
        row = _run_row(one) if isinstance(one, Run) else _study_row(one)
        return one.created, row
    except DanluError as e:
        note(f"{path.name} cannot be read: {e.mistakes[0]}")
        return 0.0, {**dict.fromkeys(_COLUMNS), "run": path.name, "status": "damaged"}


def _run_row(run: Run) -> Row:
    """Return what is listed of a run."""
    row: Row = dict.fromkeys(_COLUMNS)
    row["run"] = run.path.name
    source, model = run.data_info["source"].get("source"), run.recipe.model.name
    result, figure = run.result, run.chosen_metric
    if not any(name.endswith(f"_{figure}") for name in result):
        figure = run.schema.metrics[0]  # a member of a study that was compared by another
    # The part that no choice was made on comes first.
    names = [f"{part}_{figure}" for part in ("test", "valid", "train")]
    scores = [result[name] for name in names if name in result]
    return {
        **row,
        "status": run.status,
        "source": source,
        "model": model,
        "epochs": result.get("epochs", len(run.history)),
        "figure": figure,
        "score": scores[0] if scores else None,
        "seconds": result.get("seconds"),
    }


def _study_row(study: Study) -> Row:
    """Return what is listed of a study."""
    return {
        **dict.fromkeys(_COLUMNS),
        "run": study.path.name,
        "status": study.status,
        "source": study.data_info["source"].get("source"),
        "model": study.info["kind"],
        "epochs": f"{len(study.members)} of {len(study)}",
    }


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show(run: RunPath, trust: Trust = False, json: Json = False) -> None:
    """A run's result, curves, verdict and recipe; of a study what it shows."""
    from danlu.diagnosis import diagnose, verdict
    from danlu.report.terminal.console import get_console, say
    from danlu.report.terminal.progress import terminal_curves
    from danlu.runs import Study

    path = study_path(run)
    if path is not None:
        show_study(Study(path, trust), json)
        return
    found = open_run(run, trust)
    if json:
        facts = {"run": str(found.path), **found.info, "status": found.status}
        facts["history"] = found.history
        print_json({**facts, "recipe": found.recipe.to_dict()})
        return
    say(f"{short_path(found.path)}: {found.status}")
    if "error" in found.info:
        say(found.info["error"])
    # A run that was stopped early has none.
    if found.history:
        console = get_console()
        console.print(terminal_curves(found.history, found.metric, console.width))
    if found.status == "finished":
        print_results(found)
        for sentence in verdict(found, diagnose(found)):
            say(sentence)
    say("\n" + found.recipe.to_toml())


def report(run: RunPath, trust: Trust = False) -> None:
    """Write the page of a finished run or study anew and print its path."""
    from danlu.cli.languages import language_of
    from danlu.cli.study import write_study_report
    from danlu.errors import RunError
    from danlu.report.pages.run_page import write_report
    from danlu.runs import Study

    path = study_path(run)
    if path is not None:
        tell(short_path(write_study_report(Study(path, trust))))
        return
    found = open_run(run, trust)
    if found.status != "finished":
        raise RunError(
            f"{str(found.path)!r} is {found.status}; only a finished run has a report "
            "(danlu resume goes on)"
        )
    tell(short_path(write_report(found, language=language_of(None))))


@with_loading_options
def data(
    source: Source,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with sample pictures there.")
    ] = None,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """What is in a source: parts, shapes, roles of columns, rank, duplicates, every problem."""
    from danlu.data.sources.inspect import inspect_table
    from danlu.report.pages import data_page
    from danlu.report.tables.data import describe
    from danlu.report.terminal import data_summary

    try:
        loaded = load_source(source, loading)
    except DataError as e:
        # What is no source at all cannot be described.
        if not Path(source).expanduser().exists():
            raise
        inspection = inspect_table(source, loading)
        if json:
            print_json({"source": source, "problems": list(e.mistakes), **_plain(inspection)})
        else:
            data_summary.show_inspection(source, inspection, e.mistakes)
        return
    if json:
        print_json(describe(loaded))
    else:
        data_summary.show(loaded)
    if html:
        data_page.write_page(loaded, html)
        (note if json else tell)(f"page: {html}")


def _plain(inspection: Inspection | None) -> dict[str, Any]:
    if inspection is None:
        return {}
    roles = [asdict(note) for note in inspection.columns]
    return {"examples": inspection.rows, "roles": roles, "notices": list(inspection.notices)}


def summary(
    overrides: Overrides = None,
    input: Annotated[
        str,
        typer.Option(
            help="Shape of one example, such as 1x28x28, or write input=… among the fields."
        ),
    ] = "",
    classes: Annotated[int, typer.Option(help="Outputs of the network.", min=1)] = 10,
    vocabulary: Annotated[
        int | None,
        typer.Option(help="Of networks that read text: tokens; else as many as classes.", min=1),
    ] = None,
    recipe: RecipeName = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Layers, shapes, parameters, receptive field, multiply-adds of a network, or all networks."""
    from danlu.report.terminal.model_summary import show_networks, show_summary

    if not overrides and not input and recipe is None:
        show_networks()
        return
    changes, shape = [], input
    for override in overrides or []:
        # People write it among the fields, as in the README.
        if override.startswith("input="):
            shape = override.removeprefix("input=")
        else:
            changes.append(override)
    show_summary(read_recipe(recipe, changes, trust=trust), shape, classes, vocabulary, json)
