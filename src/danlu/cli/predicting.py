"""Commands that use a trained network."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from danlu.cli.opening import load_source, notices_said, open_predictor
from danlu.cli.options import (
    Encoding,
    Json,
    RunPath,
    Trust,
    changed_loading_options,
    with_loading_options,
)
from danlu.errors import DanluError, short_path, wrong
from danlu.report.terminal.json_output import print_json
from danlu.report.terminal.lines import note, tell

if TYPE_CHECKING:
    from danlu.data import Data, Schema
    from danlu.predict.inputs import Inputs
    from danlu.predict.predictions import Prediction
    from danlu.predict.scores import Score
    from danlu.runs import Run
    from danlu.study.together import Together

_TRANSLATION_LENGTH = 200


@with_loading_options
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
    """Score a finished run on a part of its data, or on other data: every figure of its task."""
    from danlu.data import PARTS
    from danlu.errors import RunError
    from danlu.metrics import title_of
    from danlu.report.tables.classes import CLASS_HEAD, class_cells, class_rows
    from danlu.report.terminal.console import say, table

    found = open_predictor(run, trust)
    # Other data were never trained on, so all of them count.
    part = part or ("test" if source is None else "all")
    if part not in (*PARTS, "all"):
        raise RunError(wrong("part", part, "must be train, valid, test or all"))
    # The run's own data are loaded as they were; options would be silently ignored.
    given = changed_loading_options(loading) if source is None else {}
    if given:
        rule = "must be left out without another SOURCE"
        raise DanluError(*(wrong(name, value, rule) for name, value in given.items()))
    data = None
    if source is not None:
        # A part of it is what the source's own split says; all of it is read as the run's.
        reads_whole = part == "all" or found.schema.is_text
        data = load_source(source, loading, found.schema if reads_whole else None)
    score = found.evaluate(data, part)
    figures = _figures(found, data, part, score)
    by_class = class_rows(score.predicted, found.schema)
    if json:
        print_json({**figures, "classes": [row._asdict() for row in by_class]})
        return
    figures["run"] = short_path(found.path)
    table(("", ""), [(title_of(name), _shown(value)) for name, value in figures.items()])
    if by_class:
        say("")
        table(CLASS_HEAD, class_cells(by_class))
    say("")


def _figures(run: Run | Together, data: Data | None, part: str, score: Score) -> dict[str, Any]:
    """Return what an evaluation says, by name."""
    from danlu.nn.information import UNITS, perplexity

    counted = "tokens" if run.schema.each_token else "examples"
    figures: dict[str, Any] = {
        "run": str(run.path),
        "part": part,
        counted: score.n,
        "loss": score.loss,
        run.schema.metric: score.accuracy,
    }
    # The run's own unknown tokens are in its verdict; those of other texts are news.
    unknown = data.unknown(part) if data is not None and run.schema.is_text else 0
    if unknown:
        figures["unknown tokens"] = unknown
    if entities := score.entities:
        figures |= {
            "entities": entities.true,
            "precision": entities.precision,
            "recall": entities.recall,
            "f1": entities.f1,
        }
    figures |= score.more
    if run.schema.metric == "accuracy":
        figures |= {
            "loss in bits": score.loss * UNITS["bits"],
            "perplexity": perplexity(score.loss),
        }
    return figures


def predict(
    run: RunPath,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT…",
            help="Pictures, folders of them, tables, texts (or files of a text a line), "
            "- for stdin.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write a table of the predictions there (CSV).")
    ] = None,
    resize: Annotated[
        bool, typer.Option("--resize", help="Bring pictures to the network's size, unmentioned.")
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
    ] = _TRANSLATION_LENGTH,
    encoding: Encoding = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """What a trained network says of new examples."""
    from danlu.predict import text
    from danlu.predict.inputs import Inputs, read, read_texts
    from danlu.runs import Run

    found = open_predictor(run, trust)
    options = {"resize": resize, "encoding": encoding, "samples": samples, "out": out}
    # What reads texts; of several networks each reads them in the same way.
    reader = found if isinstance(found, Run) else found.runs[0]
    # An option without effect is a misunderstanding, so it is refused.
    _refuse_unused(found.schema, {**options, "beam": beam, "length": length})
    with notices_said():
        if not found.schema.is_text:
            read_inputs = read(found.schema, inputs, encoding, resize)
        else:
            texts = read_texts(inputs, encoding, found.schema)
            if found.schema.each_token:
                _print_texts(reader, texts, beam, length, json)
                return
            read_inputs = Inputs(text.encode(reader, texts), texts, {})
    rows = _rows(read_inputs, found.predict(read_inputs.x, samples=samples), json)
    if out is not None:
        _write_rows(rows, out)
        (note if json else tell)(f"{len(rows):,} predictions: {out}")
    if json:
        for row in rows:
            print_json(row)
    elif out is None:
        # A pipe gets texts whole.
        _print_rows(rows, shorten=found.schema.is_text and sys.stdout.isatty())


def _write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    import csv

    from danlu.files import writing

    with writing(path) as file:
        content = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.DictWriter(content, list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        content.flush()
        content.detach()


def _refuse_unused(schema: Schema, given: dict[str, Any]) -> None:
    """Raise DanluError for options of `predict` that do nothing for such a network."""
    kind = "pictures" if schema.is_image else "text" if schema.is_text else "tables"
    # The default, and whether the option is without effect here.
    options: dict[str, tuple[Any, bool]] = {
        "resize": (False, kind != "pictures"),
        "encoding": (None, kind == "pictures"),
        "out": (None, schema.each_token),
        "samples": (0, schema.each_token),
        "beam": (1, schema.task != "pairs"),
        "length": (_TRANSLATION_LENGTH, schema.task != "pairs"),
    }
    rule = f"must be left out: the run is for {schema.task} of {kind}"
    mistakes = []
    for name, (default, is_unused) in options.items():
        if is_unused and given[name] != default:
            mistakes.append(wrong(name, given[name], rule))
    if mistakes:
        raise DanluError(*mistakes)


def _rows(inputs: Inputs, p: Prediction, json: bool) -> list[dict[str, Any]]:
    """Return what is said of each input; as JSON with the probability of every class."""
    rows: list[dict[str, Any]] = []
    for i, name in enumerate(inputs.names):
        row: dict[str, Any] = {"input": name}
        row |= {column: cells[i] for column, cells in inputs.identifiers.items()}
        rows.append(row)
    values = p.values.tolist()
    if p.probabilities is None:
        for row, value in zip(rows, values, strict=True):
            row["value"] = value
    else:
        probabilities = p.probabilities.tolist()
        for row, label, shares in zip(rows, p.labels, probabilities, strict=True):
            row["class"] = label
            row["probability"] = max(shares)
            if json:
                row["probabilities"] = dict(zip(p.classes, shares, strict=True))
    if p.spread is not None:
        spreads = p.spread
        # Of a class, the spread of its own probability.
        if p.probabilities is not None:
            spreads = spreads.gather(1, p.values[:, None]).squeeze(1)
        for row, spread in zip(rows, spreads.tolist(), strict=True):
            row["spread"] = spread
    return rows


def _print_rows(rows: Sequence[dict[str, Any]], shorten: bool) -> None:
    from danlu.report.terminal.console import shortened, table

    cells = []
    for row in rows:
        line = [_shown(value) for value in row.values()]
        if shorten:
            line[0] = shortened(line[0])
        cells.append(line)
    # Every row has the same columns.
    table(list(rows[0]), cells)


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _print_texts(run: Run, texts: list[str], beam: int, length: int, json: bool) -> None:
    """Print what a tagger or a translator says of each text."""
    from danlu.predict import text, translate
    from danlu.report.terminal.text_output import show_pairs, show_tagged

    if run.schema.task == "tagging":
        show_tagged(text.tag(run, texts), json)
    elif run.schema.task == "pairs":
        show_pairs(texts, translate.translate(run, texts, beam, length), json)
    else:
        raise DanluError(
            f"{str(run.path)!r} was trained to write: use danlu generate or danlu score"
        )
