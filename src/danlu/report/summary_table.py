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
from danlu.report.terminal import console, table
from danlu.runs.run import build_model


def parse_shape(text: str) -> tuple[int, ...]:
    """ "1x28x28" (or commas) as numbers."""
    parts = text.replace("×", "x").replace(",", "x").split("x")
    if not text or not all(p.strip().isdigit() and int(p) > 0 for p in parts) or len(parts) not in (1, 3):
        raise ModelError(
            wrong("input", text, "must be a shape such as 1x28x28 for pictures, 13 for tables, 128 for text", "try input=1x28x28")
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
        rows.append((name, "pictures" if pictures else kinds[model.reads], ", ".join(model.defaults)))
    table(("model", "examples", "fields (model.…)"), rows)
    console.print("\nlayers and sizes of one: danlu summary model=resnet-18 input=3x32x32")


def show_summary(recipe: Recipe, shape: str, classes: int, json: bool) -> None:
    """Print the rows and their totals. Networks that read text are summarised as language models of `classes` tokens."""
    size_of = parse_shape(shape)
    schema = Schema("classification", size_of, tuple(map(str, range(classes))))
    if MODELS[recipe.model.name].reads if recipe.model.name in MODELS else False:
        if len(size_of) > 1:
            raise ModelError(wrong("input", shape, "must be one number of tokens for a network that reads text", "try input=128"))
        schema = Schema("language", size_of, tokens=classes)
    model = build_model(recipe, schema)
    rows = summarise(model, schema.input_shape)
    if json:
        print(jsonlib.dumps([dataclasses.asdict(r) for r in rows]))
        return

    def size(s: tuple[int, ...] | None) -> str:
        return "×".join(map(str, s)) if s else "–"

    cells = [
        (r.name, r.kind, size(r.output), f"{r.parameters:,}", r.receptive_field or "–", f"{r.multiply_adds:,}") for r in rows
    ]
    table(("layer", "kind", "output", "parameters", "receptive field", "multiply-adds"), cells)
    total = sum(p.numel() for p in model.parameters())
    cost = sum(r.multiply_adds for r in rows if not r.name.startswith("aux"))
    aside = sum(p.numel() for k, p in model.named_parameters() if k.startswith("aux"))
    more = f", {aside:,} of them in auxiliary classifiers, which only training runs" if aside else ""
    console.print(f"\n{total:,} parameters{more}, {cost:,} multiply-adds for one example")
