"""The command line: parse, call the public function, print, exit code. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from danlu import __version__
from danlu.errors import DanluError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train neural networks by evidence.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipe_app = typer.Typer(no_args_is_help=True, help="Show, check and compare recipes.")
app.add_typer(recipe_app, name="recipe")

Source = Annotated[
    str, typer.Argument(help="A name (digits, iris, mnist, cifar10, …), a folder, a CSV or Parquet file, or hub:owner/name.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]…", help="Recipe fields, such as model=cnn lr=0.01 (see: danlu recipe fields)."),
]
RecipeName = Annotated[str | None, typer.Option("--recipe", "-r", help="A preset or a TOML file.")]
RunPath = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's folder, or its name under the runs folder; `last` for the newest.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Target = Annotated[str | None, typer.Option(help="The column to predict.")]
Task = Annotated[str | None, typer.Option(help="classification or regression.")]
Resize = Annotated[int | None, typer.Option(help="Side in pixels to bring pictures to.")]
Mode = Annotated[str | None, typer.Option(help="L (grey) or RGB.")]
Split = Annotated[str | None, typer.Option(help="Shares such as 60/20/20 or 70/30; without it the amount of data decides.")]
Valid = Annotated[bool, typer.Option(help="Whether to hold out a validation part.")]
SplitSeed = Annotated[int, typer.Option(help="Seed of the shuffle before splitting.")]
Limit = Annotated[int | None, typer.Option(help="At most so many training examples.")]
Memory = Annotated[str | None, typer.Option(help="Map larger data from disk, such as 2GB.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"danlu {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def _load(
    source: str,
    target: str | None,
    task: str | None,
    resize: int | None,
    mode: str | None,
    split: str | None,
    valid: bool,
    split_seed: int,
    limit: int | None,
    memory: str | None,
) -> Any:
    from danlu.data import load

    return load(
        source,
        target=target,
        task=task,
        resize=resize,
        mode=mode,
        split=split,
        valid=valid,
        seed=split_seed,
        limit=limit,
        memory=memory,
    )


def _recipe(name: str | None, overrides: list[str] | None, source: str | None = None) -> Any:
    from danlu.recipe import Recipe, presets

    chosen = name or (source if source in presets() else None)
    return (Recipe.read(chosen) if chosen else Recipe()).with_(overrides or [])


def _run(name: str) -> Any:
    from danlu.errors import RunError
    from danlu.runs import Run, list_runs
    from danlu.runs.folder import runs_root

    if name == "last":
        found = list_runs()
        if not found:
            raise RunError(f"there is no run under {runs_root()}; train one with danlu fit")
        return found[-1]
    path = Path(name)
    return Run(path if path.exists() or not (runs_root() / name).exists() else runs_root() / name)


@app.command()
def fit(
    source: Source,
    overrides: Overrides = None,
    recipe: RecipeName = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    target: Target = None,
    task: Task = None,
    resize: Resize = None,
    mode: Mode = None,
    split: Split = None,
    valid: Valid = True,
    split_seed: SplitSeed = 0,
    limit: Limit = None,
    memory: Memory = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 5.0,
    json: Json = False,
) -> None:
    """Train one network on a source and report what it reached."""
    mistakes: list[str] = []
    r = data = None
    try:
        r = _recipe(recipe, overrides, source)
    except DanluError as e:
        mistakes += e.mistakes
    try:
        data = _load(source, target, task, resize, mode, split, valid, split_seed, limit, memory)
    except DanluError as e:
        mistakes += e.mistakes
    if r is None or data is None:
        raise DanluError(*mistakes)
    from danlu import train
    from danlu.report.progress import best_progress

    if not json:
        _announce(data, r)
    run = train.fit(
        r, data, out=out, device=device, listener=None if json else best_progress(), checkpoint_every=checkpoint_every
    )
    _finish(run, data, json)


def _announce(data: Any, recipe: Any) -> None:
    from danlu.report.terminal import say

    sizes = ", ".join(f"{data.size(p):,} {n}" for p, n in (("train", "training"), ("valid", "validation"), ("test", "test")))
    say(f"{recipe.model.name} on {data.source['source']}: {sizes} examples of {'×'.join(map(str, data.schema.input_shape))}")


def _finish(run: Any, data: Any, json: bool) -> None:
    """The report, the table, the verdict, the path."""
    from danlu.diagnose import verdict
    from danlu.report.run_page import write_report
    from danlu.report.terminal import say

    report = write_report(run)
    doubled = data.duplicates() if data is not None else {}
    notes = [
        f"{len(v)} examples of the {b} part equal one of the {a} part; its score is flattered." for (a, b), v in doubled.items()
    ]
    if json:
        print(
            jsonlib.dumps(
                {"run": str(run.path), "result": run.result, "verdict": verdict(run) + notes, "report": str(report)},
                ensure_ascii=False,
            )
        )
        return
    _results(run)
    for sentence in verdict(run) + notes:
        say(sentence)
    say(f"\nreport: {report}")


def _results(run: Any) -> None:
    from danlu.report.run_page import result_rows
    from danlu.report.terminal import console, table

    console.print()
    rows = [(n, f"{size:,}", f"{loss:.4f}", f"{v:.4f}") for n, size, loss, v in result_rows(run)]
    table(("part", "examples", "loss", "R²" if run.metric == "r2" else run.metric), rows)
    r = run.result
    console.print(f"\n[dim]{r['parameters']:,} parameters, {r['epochs']} epochs, {r['seconds']:.1f} s[/dim]")


@app.command()
def resume(
    run: RunPath, checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 5.0, json: Json = False
) -> None:
    """Go on with an interrupted or killed run, to the same weights as if nothing had happened."""
    from danlu import train
    from danlu.report.progress import best_progress

    found = _run(run)
    done = train.resume(found, listener=None if json else best_progress(), checkpoint_every=checkpoint_every)
    _finish(done, None, json)


@app.command()
def evaluate(
    run: RunPath,
    source: Annotated[str | None, typer.Argument(help="Other data of the same kind; else the run's own.")] = None,
    part: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    target: Target = None,
    resize: Resize = None,
    mode: Mode = None,
    json: Json = False,
) -> None:
    """Loss and accuracy of a finished run on a part of its data, or of other data."""
    from danlu.errors import RunError, wrong
    from danlu.nn.information import UNITS, perplexity
    from danlu.report.terminal import say, table

    found = _run(run)
    if part not in ("train", "valid", "test"):
        raise RunError(wrong("part", part, "must be train, valid or test"))
    options: dict[str, Any] = {k: v for k, v in {"target": target, "resize": resize, "mode": mode}.items() if v is not None}
    data = None
    if source is not None:
        from danlu.data import load

        data = load(source, **options)
    score = found.evaluate(data, part)
    said: dict[str, Any] = {
        "run": str(found.path),
        "part": part,
        "examples": score.n,
        "loss": score.loss,
        found.metric: score.accuracy,
    }
    if found.metric == "accuracy":
        said |= {"loss in bits": score.loss * UNITS["bits"], "perplexity": perplexity(min(score.loss, 700.0))}
    if json:
        print(jsonlib.dumps(said))
        return
    table(("", ""), [(k, f"{v:.4f}" if isinstance(v, float) else v) for k, v in said.items()])
    say("")


@app.command()
def predict(
    run: RunPath,
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT…", help="Picture files, folders, CSV files, or - for standard input.")
    ],
    resize: Annotated[bool, typer.Option("--resize", help="Bring pictures to the network's size.")] = False,
    samples: Annotated[int, typer.Option(help="Passes with dropout on, for mean and spread.", min=0)] = 0,
    json: Json = False,
) -> None:
    """What a trained network says of new examples."""
    from danlu.report.terminal import table
    from danlu.runs.inputs import read

    found = _run(run)
    x, names = read(found.schema, inputs, resize)
    p = found.predict(x, samples=samples)
    if p.probabilities is None:
        rows = [{"input": n, "value": float(v)} for n, v in zip(names, p.values, strict=True)]
        for row, s in zip(rows, p.spread if p.spread is not None else [], strict=False):
            row["spread"] = float(s)
    else:
        rows = [
            {"input": n, "class": label, "probability": float(q.max())}
            for n, label, q in zip(names, p.labels, p.probabilities, strict=True)
        ]
        for i, row in enumerate(rows):
            if json:
                row["probabilities"] = dict(zip(p.classes, p.probabilities[i].tolist(), strict=True))
            if p.spread is not None:
                row["spread"] = float(p.spread[i, int(p.values[i])])
    if json:
        for row in rows:
            print(jsonlib.dumps(row, ensure_ascii=False))
        return
    head = [k for k in ("input", "class", "value", "probability", "spread") if k in rows[0]]
    table(head, [[f"{r[k]:.4f}" if isinstance(r[k], float) else r[k] for k in head] for r in rows])


@app.command()
def runs(json: Json = False) -> None:
    """List the runs under the runs folder, oldest first."""
    from danlu.report.terminal import say, table
    from danlu.runs import list_runs
    from danlu.runs.folder import runs_root

    rows = []
    for r in list_runs():
        result = r.result
        value = next((result[f"{p}_{r.metric}"] for p in ("test", "valid", "train") if f"{p}_{r.metric}" in result), None)
        rows.append(
            {
                "run": r.path.name,
                "status": r.status,
                "source": r.data_info["source"]["source"],
                "model": r.recipe.model.name,
                "epochs": result.get("epochs", len(r.history)),
                "score": value,
                "seconds": result.get("seconds"),
            }
        )
    if json:
        for row in rows:
            print(jsonlib.dumps(row))
    elif not rows:
        say(f"no run under {runs_root()} yet; train one with: danlu fit digits")
    else:
        shown = [["–" if v is None else f"{v:.4g}" if isinstance(v, float) else v for v in row.values()] for row in rows]
        table(list(rows[0]), shown)


@app.command()
def show(run: RunPath, json: Json = False) -> None:
    """A run's result, curves, verdict and recipe."""
    from danlu.diagnose import verdict
    from danlu.report.progress import terminal_curves
    from danlu.report.terminal import console, say

    r = _run(run)
    if json:
        print(
            jsonlib.dumps({"run": str(r.path), **r.info, "history": r.history, "recipe": r.recipe.to_dict()}, ensure_ascii=False)
        )
        return
    say(f"{r.path}: {r.status}")
    if "error" in r.info:
        say(r.info["error"])
    if r.history:
        console.print(terminal_curves(r.history, r.metric, console.width))
    if r.status == "finished":
        _results(r)
        for sentence in verdict(r):
            say(sentence)
    say("\n" + r.recipe.to_toml())


@app.command()
def report(run: RunPath) -> None:
    """Write a finished run's page anew and print its path."""
    from danlu.errors import RunError
    from danlu.report.run_page import write_report

    found = _run(run)
    if found.status != "finished":
        raise RunError(f"{str(found.path)!r} is {found.status}; only a finished run has a report (danlu resume goes on)")
    print(write_report(found))


@app.command()
def data(
    source: Source,
    target: Target = None,
    task: Task = None,
    resize: Resize = None,
    mode: Mode = None,
    split: Split = None,
    valid: Valid = True,
    split_seed: SplitSeed = 0,
    limit: Limit = None,
    memory: Memory = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with sample pictures there.")] = None,
    json: Json = False,
) -> None:
    """What is in a source: parts, shapes, classes and counts, constant columns, duplicates, samples."""
    from danlu.report import data_page, data_terminal

    d = _load(source, target, task, resize, mode, split, valid, split_seed, limit, memory)
    if json:
        print(jsonlib.dumps(data_page.describe(d), ensure_ascii=False))
    else:
        data_terminal.show(d)
    if html:
        data_page.write_page(d, html)
        print(f"page: {html}", file=sys.stderr if json else sys.stdout)


@app.command()
def summary(
    overrides: Overrides = None,
    input: Annotated[str, typer.Option(help="Shape of one example, such as 1x28x28, or write input=… among the fields.")] = "",
    classes: Annotated[int, typer.Option(help="Outputs of the network.", min=1)] = 10,
    recipe: RecipeName = None,
    json: Json = False,
) -> None:
    """Layers, output shapes, parameters, receptive field and multiply-adds of a network."""
    from danlu.report.summary_table import show_summary

    given = list(overrides or [])
    shapes = [o.removeprefix("input=") for o in given if o.startswith("input=")]
    given = [o for o in given if not o.startswith("input=")]
    show_summary(_recipe(recipe, given), (shapes or [input])[-1], classes, json)


@recipe_app.command("show")
def recipe_show(
    name: Annotated[str | None, typer.Argument(metavar="[PRESET|FILE|RUN]", help="Default: the default recipe.")] = None,
    overrides: Overrides = None,
    as_code: Annotated[bool, typer.Option("--as-code", help="The plain PyTorch loop it stands for.")] = False,
    source: Annotated[str, typer.Option(help="The data the code loads.")] = "digits",
    json: Json = False,
) -> None:
    """Print a recipe as TOML, or as the plain PyTorch loop it stands for."""
    given = list(overrides or [])
    if name and "=" in name:
        given, name = [name, *given], None
    r = _recipe(name, given)
    if as_code:
        from danlu.train.code import as_code as write_code

        print(write_code(r, source))
    else:
        print(jsonlib.dumps(r.to_dict(whole=True)) if json else r.to_toml())


@recipe_app.command("check")
def recipe_check(
    name: Annotated[str, typer.Argument(metavar="PRESET|FILE")],
    overrides: Overrides = None,
    source: Annotated[str | None, typer.Option(help="Also check that it fits these data.")] = None,
) -> None:
    """Say every mistake of a recipe, or that there is none."""
    r = _recipe(name, overrides)
    if source:
        from danlu.data import load
        from danlu.train import check

        check(r, load(source))
    print("no mistakes")


@recipe_app.command("diff")
def recipe_diff(
    a: Annotated[str, typer.Argument(metavar="A")], b: Annotated[str, typer.Argument(metavar="B")], json: Json = False
) -> None:
    """What differs between two recipes (presets, files or runs)."""
    from danlu.recipe import Recipe
    from danlu.report.terminal import table

    found = Recipe.read(a).diff(Recipe.read(b))
    if json:
        print(jsonlib.dumps([{"field": k, "a": x, "b": y} for k, x, y in found]))
    elif found:
        table(("field", a, b), [(k, "–" if x is None else x, "–" if y is None else y) for k, x, y in found])
    else:
        print("no difference")


@recipe_app.command("fields")
def recipe_fields() -> None:
    """Every field with its default and what it does."""
    from danlu.report.fields import show_fields

    show_fields()


@recipe_app.command("presets")
def recipe_presets() -> None:
    """The recipes that come with danlu."""
    from danlu.recipe.recipe import preset_text, presets

    for name in presets():
        print(f"{name:20} {preset_text(name).splitlines()[0].lstrip('# ')}")


@recipe_app.command("schema")
def recipe_schema() -> None:
    """The JSON Schema of a recipe."""
    from danlu.recipe import Recipe

    print(jsonlib.dumps(Recipe.model_json_schema(), indent=1, ensure_ascii=False))


def main() -> None:
    """The entry point: a user's mistake is a sentence and an exit code, never a traceback."""
    try:
        app()
    except DanluError as e:
        for mistake in e.mistakes:
            print(f"danlu: {mistake}", file=sys.stderr)
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        print("danlu: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output left
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
