"""A network's layers as a table."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import math

from danlu.data.schema import Schema
from danlu.errors import ModelError, wrong
from danlu.models import MODELS
from danlu.models.summary import summarise
from danlu.recipe import Recipe
from danlu.report.terminal.console import console, table
from danlu.runs.run import build_model

_KINDS = {
    "language": " (a language model)",
    "tagging": " (a tagger)",
    "classification": " (a classifier of texts)",
    "pairs": " (an encoder and a decoder)",
}


def parse_shape(text: str) -> tuple[int, ...]:
    """ "1x28x28" (or commas) as numbers."""
    parts = text.replace("×", "x").replace(",", "x").split("x")
    if (
        not text
        or not all(p.strip().isdigit() and int(p) > 0 for p in parts)
        or len(parts) not in (1, 3)
    ):
        raise ModelError(
            wrong(
                "input",
                text,
                "must be a shape",
                "try input=1x28x28 for pictures, input=13 for tables, input=128 for text",
            )
        )
    shape = tuple(int(p) for p in parts)
    if math.prod(shape) > 10**8:
        raise ModelError(wrong("input", text, "must have at most 10⁸ values", "try input=1x28x28"))
    return shape


def show_networks() -> None:
    """Print the zoo: every name, what it is for, and the fields it has."""
    kinds = {True: "text", False: "pictures, tables"}
    rows = []
    for name, model in MODELS.items():
        pictures = "width" in model.defaults or "kernel_size" in model.defaults
        rows.append(
            (name, "pictures" if pictures else kinds[model.reads], ", ".join(model.defaults))
        )
    table(("model", "examples", "fields (model.…)"), rows)
    console.print("\nlayers and sizes of one: danlu summary model=resnet-18 input=3x32x32")


def _schema(recipe: Recipe, shape: str, classes: int, tokens: int | None) -> Schema:
    """Examples of that shape. Of a network that reads text its fields tell the task; a language model's outputs are tokens."""
    size_of, names = parse_shape(shape), tuple(map(str, range(classes)))
    reads = recipe.model.name in MODELS and MODELS[recipe.model.name].reads
    if not reads and tokens:
        raise ModelError(
            wrong("vocabulary", tokens, f"must be left out: {recipe.model.name!r} reads no text")
        )
    if not reads:
        return Schema("classification", size_of, names)
    if len(size_of) > 1:
        raise ModelError(
            wrong(
                "input",
                shape,
                "must be one number of tokens for a network that reads text",
                "try input=128",
            )
        )
    fields = recipe.model.model_dump()
    if fields["attention"]:  # as many tokens in the target, and <eos>
        return Schema("pairs", (2 * size_of[0] + 1,), tokens=tokens or classes, source=size_of[0])
    if fields["crf"]:
        return Schema("tagging", size_of, names, tokens=tokens or classes)
    if fields["bidirectional"]:
        return Schema("classification", size_of, names, tokens=tokens or classes)
    return Schema("language", size_of, tokens=tokens or classes)


def show_summary(recipe: Recipe, shape: str, classes: int, tokens: int | None, json: bool) -> None:
    """Print the rows and their totals. tokens: of the vocabulary; without it as many as classes."""
    schema = _schema(recipe, shape, classes, tokens)
    model = build_model(recipe, schema)
    rows = summarise(model, schema.input_shape)
    if json:
        print(jsonlib.dumps([dataclasses.asdict(r) for r in rows]))
        return

    def size(s: tuple[int, ...] | None) -> str:
        return "×".join(map(str, s)) if s else "–"

    cells = [
        (
            r.name,
            r.kind,
            size(r.output),
            f"{r.parameters:,}",
            r.receptive_field or "–",
            f"{r.multiply_adds:,}",
        )
        for r in rows
    ]
    table(("layer", "kind", "output", "parameters", "receptive field", "multiply-adds"), cells)
    total = sum(p.numel() for p in model.parameters())
    cost = sum(r.multiply_adds for r in rows if not r.name.startswith("aux"))
    aside = sum(p.numel() for k, p in model.named_parameters() if k.startswith("aux"))
    kind = _KINDS[schema.task] if schema.is_text else ""
    more = (
        f", {aside:,} of them in auxiliary classifiers, which only training runs" if aside else ""
    )
    console.print(f"\n{total:,} parameters{more}, {cost:,} multiply-adds for one example{kind}")
