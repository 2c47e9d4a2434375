"""Commands that show runs, data and networks."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from danlu.cli.options import (
    Json,
    Overrides,
    RecipeName,
    RunPath,
    Source,
    load_source,
    open_run,
    read_recipe,
    reads,
    study_path,
)
from danlu.cli.training import print_results
from danlu.errors import DanluError, count


def runs(json: Json = False) -> None:
    """List the runs and studies under the runs folder, oldest first."""
    from danlu.report.terminal.console import say, table
    from danlu.runs import list_runs, list_studies
    from danlu.runs.folder import runs_root

    rows = []
    for r in list_runs():
        try:
            source, model = r.data_info["source"]["source"], r.recipe.model.name
        except (DanluError, KeyError):  # one damaged run does not hide the others
            rows.append(
                {
                    "run": r.path.name,
                    "status": "damaged",
                    **dict.fromkeys(("source", "model", "epochs", "figure", "score", "seconds")),
                }
            )
            continue
        result = r.result
        figure = r.schema.figures[0]
        value = next(
            (
                result[f"{p}_{figure}"]
                for p in ("test", "valid", "train")
                if f"{p}_{figure}" in result
            ),
            None,
        )
        rows.append(
            {
                "run": r.path.name,
                "status": r.status,
                "source": source,
                "model": model,
                "epochs": result.get("epochs", len(r.history)),
                "figure": figure,
                "score": value,
                "seconds": result.get("seconds"),
            }
        )
    found = len(rows)
    for s in list_studies():
        kind, done = s.info["kind"], f"{len(s.members)} of {len(s)}"
        source = s.data_info["source"]["source"]
        row = {
            "run": s.path.name,
            "status": s.status,
            "source": source,
            "model": kind,
            "epochs": done,
        }
        rows.append({**row, "figure": None, "score": None, "seconds": None})
    unread = len(list(runs_root().glob("*/run.json"))) - found
    if unread:
        what = f"{count(unread, 'run')} under {runs_root()} that this danlu does not read"
        print(f"not shown: {what}; danlu show RUN says why", file=sys.stderr)
    if json:
        for row in rows:
            print(jsonlib.dumps(row))
    elif not rows:
        say(f"no run under {runs_root()} yet; train one with: danlu fit digits")
    else:
        shown = [
            ["–" if v is None else f"{v:.4g}" if isinstance(v, float) else v for v in row.values()]
            for row in rows
        ]
        table(list(rows[0]), shown)


def show(run: RunPath, json: Json = False) -> None:
    """A run's result, curves, verdict and recipe; of a study what it shows."""
    from danlu.diagnose import verdict
    from danlu.report.terminal.console import console, say
    from danlu.report.terminal.progress import terminal_curves

    if (path := study_path(run)) is not None:
        from danlu.cli.study import show_study

        show_study(path, json)
        return
    r = open_run(run)
    if json:
        print(
            jsonlib.dumps(
                {"run": str(r.path), **r.info, "history": r.history, "recipe": r.recipe.to_dict()},
                ensure_ascii=False,
            )
        )
        return
    say(f"{r.path}: {r.status}")
    if "error" in r.info:
        say(r.info["error"])
    if r.history:
        console.print(terminal_curves(r.history, r.metric, console.width))
    if r.status == "finished":
        print_results(r)
        for sentence in verdict(r):
            say(sentence)
    say("\n" + r.recipe.to_toml())


def report(run: RunPath) -> None:
    """Write the page of a finished run or study anew and print its path."""
    from danlu.errors import RunError
    from danlu.report.pages.run_page import write_report

    if (path := study_path(run)) is not None:
        from danlu.cli.study import report_study

        print(report_study(path))
        return
    found = open_run(run)
    if found.status != "finished":
        raise RunError(
            f"{str(found.path)!r} is {found.status}; only a finished run has a report (danlu resume goes on)"
        )
    print(write_report(found))


@reads
def data(
    source: Source,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with sample pictures there.")
    ] = None,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """What is in a source: parts, shapes, classes and counts, missing and constant columns, duplicates, samples."""
    from danlu.report.pages import data_page
    from danlu.report.terminal import data_summary

    d = load_source(source, {**loading, "missing": "drop"})
    if json:
        print(jsonlib.dumps(data_page.describe(d), ensure_ascii=False))
    else:
        data_summary.show(d)
    if html:
        data_page.write_page(d, html)
        print(f"page: {html}", file=sys.stderr if json else sys.stdout)


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
    json: Json = False,
) -> None:
    """Layers, output shapes, parameters, receptive field and multiply-adds of a network; alone, every network there is."""
    from danlu.report.terminal.model_summary import show_networks, show_summary

    if not overrides and not input and recipe is None:
        show_networks()
        return
    given = list(overrides or [])
    shapes = [o.removeprefix("input=") for o in given if o.startswith("input=")]
    given = [o for o in given if not o.startswith("input=")]
    show_summary(read_recipe(recipe, given), (shapes or [input])[-1], classes, vocabulary, json)
