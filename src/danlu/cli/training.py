"""Commands that train networks and use them."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from danlu.cli.options import (
    Encoding,
    Json,
    Overrides,
    Ray,
    RecipeName,
    RunPath,
    Source,
    Trust,
    gather,
    load_source,
    open_run,
    read_recipe,
    reads,
    study_path,
)
from danlu.errors import DanluError, count, wrong


@reads
def fit(
    source: Source,
    overrides: Overrides = None,
    recipe: RecipeName = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 5.0,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """Train one network on a source and report what it reached."""
    held: dict[str, Any] = {}
    found = gather(
        data=lambda: held.setdefault("data", load_source(source, loading)),
        recipe=lambda: read_recipe(
            recipe, overrides, source, held.get("data"), known="data" in held
        ),
    )
    r, data = found["recipe"], found["data"]
    from danlu import train
    from danlu.report.terminal.progress import best_progress

    if not json:
        _announce(data, r)
    run = train.fit(
        r,
        data,
        out=out,
        device=device,
        listener=None if json else best_progress(),
        checkpoint_every=checkpoint_every,
    )
    _finish(run, json)


def _announce(data: Any, recipe: Any) -> None:
    from danlu.report.terminal.console import say

    sizes = ", ".join(
        f"{data.size(p):,} {n}"
        for p, n in (("train", "training"), ("valid", "validation"), ("test", "test"))
    )
    say(
        f"{recipe.model.name} on {data.source['source']}: {sizes} examples of {'×'.join(map(str, data.schema.input_shape))}"
    )


def _finish(run: Any, json: bool) -> None:
    """The report, the table, the verdict, the path."""
    from danlu.diagnose import verdict
    from danlu.report.pages.run_page import write_report
    from danlu.report.terminal.console import say

    report = write_report(run)
    if json:
        print(
            jsonlib.dumps(
                {
                    "run": str(run.path),
                    "result": run.result,
                    "verdict": verdict(run),
                    "report": str(report),
                },
                ensure_ascii=False,
            )
        )
        return
    print_results(run)
    for sentence in verdict(run):
        say(sentence)
    say(f"\nreport: {report}")


def print_results(run: Any) -> None:
    """Loss and accuracy of each part, and what they cost."""
    from danlu.report.pages.run_page import result_head, result_rows
    from danlu.report.terminal.console import console, table

    console.print()
    table(result_head(run), result_rows(run))
    r = run.result
    console.print(
        f"\n[dim]{r['parameters']:,} parameters, {count(r['epochs'], 'epoch')}, {r['seconds']:.1f} s[/dim]"
    )


def resume(
    run: RunPath,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 5.0,
    trust: Trust = False,
    ray: Ray = None,
    json: Json = False,
) -> None:
    """Go on with an interrupted or killed run or study, to the same weights as if nothing had happened."""
    from danlu import train
    from danlu.report.terminal.progress import best_progress

    path = study_path(run)
    if path is not None:
        from danlu.cli.study import go_on

        go_on(path, trust, checkpoint_every, ray, json)
        return
    if ray is not None:
        raise DanluError(
            wrong("ray", ray, "needs a study: a single run is trained here", "leave out --ray")
        )
    found = open_run(run, trust)
    done = train.resume(
        found, listener=None if json else best_progress(), checkpoint_every=checkpoint_every
    )
    _finish(done, json)


@reads
def evaluate(
    run: RunPath,
    source: Annotated[
        str | None, typer.Argument(help="Other data of the same kind; else the run's own.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(help="train, valid, test or all; default test, and all of another source."),
    ] = None,
    trust: Trust = False,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """Loss and accuracy of a finished run on a part of its data, or of other data."""
    from danlu.errors import RunError, wrong
    from danlu.nn.information import UNITS, perplexity
    from danlu.report.terminal.console import say, table

    found = open_run(run, trust)
    part = part or ("test" if source is None else "all")
    if part not in ("train", "valid", "test", "all"):
        raise RunError(wrong("part", part, "must be train, valid, test or all"))
    given = {
        k: v
        for k, v in loading.items()
        if v not in (None, False) and (k, v) not in (("valid", True), ("seed", 0))
    }
    if source is None and given:
        raise DanluError(
            *(wrong(k, v, "must be left out without another SOURCE") for k, v in given.items())
        )
    data = None if source is None else load_source(source, loading, found.schema)
    score = found.evaluate(data, part)
    said: dict[str, Any] = {
        "run": str(found.path),
        "part": part,
        "tokens" if found.schema.each_token else "examples": score.n,
        "loss": score.loss,
        found.metric: score.accuracy,
    }
    if found.schema.is_text and data is not None and (n := data.unknown(part)):
        said |= {"unknown tokens": n}
    if e := score.entities:
        said |= {"entities": e.true, "precision": e.precision, "recall": e.recall, "f1": e.f1}
    if found.metric == "accuracy":
        said |= {
            "loss in bits": score.loss * UNITS["bits"],
            "perplexity": perplexity(min(score.loss, 700.0)),
        }
    if json:
        print(jsonlib.dumps(said))
        return
    table(("", ""), [(k, f"{v:.4f}" if isinstance(v, float) else v) for k, v in said.items()])
    say("")


def predict(
    run: RunPath,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT…",
            help="Pictures, folders of them, CSV files, texts (or files of a text a line), - for stdin.",
        ),
    ],
    resize: Annotated[
        bool, typer.Option("--resize", help="Bring pictures to the network's size.")
    ] = False,
    samples: Annotated[
        int, typer.Option(help="Passes with dropout on, for mean and spread.", min=0)
    ] = 0,
    beam: Annotated[
        int,
        typer.Option(
            help="Of a translator: beginnings kept side by side; 1: the likeliest token.", min=1
        ),
    ] = 1,
    length: Annotated[
        int, typer.Option(help="Of a translator: tokens to write at most.", min=1)
    ] = 200,
    encoding: Encoding = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """What a trained network says of new examples."""
    from danlu.predict import text
    from danlu.predict.inputs import lines, read
    from danlu.report.terminal.console import shortened, table

    found = open_run(run, trust)
    _refuse_idle(
        found.schema,
        {
            "resize": resize,
            "encoding": encoding,
            "samples": samples,
            "beam": beam,
            "length": length,
        },
    )
    if found.schema.is_text:
        names = lines(inputs, encoding)
        if found.schema.each_token:
            _tell_texts(found, names, beam, length, json)
            return
        x = text.encode(found, names)
    else:
        x, names = read(found.schema, inputs, resize, encoding)
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
                row["probabilities"] = dict(
                    zip(p.classes, p.probabilities[i].tolist(), strict=True)
                )
            if p.spread is not None:
                row["spread"] = float(p.spread[i, int(p.values[i])])
    if json:
        for row in rows:
            print(jsonlib.dumps(row, ensure_ascii=False))
        return
    head = [k for k in ("input", "class", "value", "probability", "spread") if k in rows[0]]
    if found.schema.is_text and sys.stdout.isatty():
        rows = [{**r, "input": shortened(str(r["input"]))} for r in rows]
    table(head, [[f"{r[k]:.4f}" if isinstance(r[k], float) else r[k] for k in head] for r in rows])


def _refuse_idle(schema: Any, given: dict[str, Any]) -> None:
    """Refuse options of `predict` that do nothing for such a network."""
    kind = "pictures" if schema.is_image else "text" if schema.is_text else "tables"
    idle = {
        "resize": (False, kind != "pictures"),
        "encoding": (None, kind == "pictures"),
        "samples": (0, schema.each_token),
        "beam": (1, schema.task != "pairs"),
        "length": (200, schema.task != "pairs"),
    }
    if wrongly := {
        k: given[k] for k, (default, without) in idle.items() if without and given[k] != default
    }:
        raise DanluError(
            *(
                wrong(k, v, f"must be left out: the run is for {schema.task} of {kind}")
                for k, v in wrongly.items()
            )
        )


def _tell_texts(run: Any, texts: list[str], beam: int, length: int, json: bool) -> None:
    """What a tagger or a translator says of each text."""
    from danlu.predict import text
    from danlu.report.terminal.text_output import show_pairs, show_tagged

    if run.schema.task == "tagging":
        show_tagged(text.tag(run, texts), json)
    elif run.schema.task == "pairs":
        show_pairs(texts, text.translate(run, texts, beam, length), json)
    else:
        raise DanluError(
            f"{str(run.path)!r} was trained to write: use danlu generate or danlu score"
        )
