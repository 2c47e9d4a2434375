"""A network's layers as a table."""

from __future__ import annotations

import dataclasses
import math

from danlu.data.schema import Schema
from danlu.errors import ModelError, wrong
from danlu.models import MODELS
from danlu.models.summary import LayerSummary, summarise
from danlu.recipe import Recipe
from danlu.recipe.build import build_model
from danlu.report.terminal.console import say, table
from danlu.report.terminal.json_output import print_json

_KINDS = {
    "language": " (a language model)",
    "tagging": " (a tagger)",
    "classification": " (a classifier of texts)",
    "pairs": " (an encoder and a decoder)",
}
_MOST_VALUES = 10**8
_HEAD = ("layer", "kind", "output", "parameters", "receptive field", "multiply-adds")


def parse_shape(text: str) -> tuple[int, ...]:
    """Return "1x28x28" (or with commas) as numbers. Raises ModelError for anything else."""
    with_x = text.replace("×", "x").replace(",", "x")
    written = with_x.split("x")
    are_numbers = all(side.strip().isdecimal() for side in written)
    shape = tuple(map(int, written)) if are_numbers else ()
    if len(shape) not in (1, 3) or min(shape) < 1:
        hint = "try input=1x28x28 for pictures, input=13 for tables, input=128 for text"
        raise ModelError(wrong("input", text, "must be a shape", hint))
    if math.prod(shape) > _MOST_VALUES:
        raise ModelError(wrong("input", text, "must have at most 10⁸ values", "try input=1x28x28"))
    return shape


def show_networks() -> None:
    """Print the zoo: every name, what it is for, and the fields it has."""
    rows = []
    for name, model in MODELS.items():
        fields = model.defaults
        reads_pictures = "width" in fields or "kernel_size" in fields
        if reads_pictures:
            examples = "pictures"
        elif model.reads_text:
            examples = "text"
        else:
            examples = "pictures, tables"
        rows.append((name, examples, ", ".join(fields)))
    table(("model", "examples", "fields (model.…)"), rows)
    say("\nlayers and sizes of one: danlu summary model=resnet18 input=3x32x32")


def _schema(recipe: Recipe, text: str, classes: int, tokens: int | None) -> Schema:
    """Return a schema for examples of that shape.

    The fields of a network that reads text say the task; a language model's outputs are tokens.
    """
    shape = parse_shape(text)
    names = tuple(map(str, range(classes)))
    name = recipe.model.name
    reads_text = name in MODELS and MODELS[name].reads_text
    if not reads_text:
        if tokens:
            rule = f"must be left out: {name!r} reads no text"
            raise ModelError(wrong("vocabulary", tokens, rule))
        return Schema("classification", shape, names)
    if len(shape) > 1:
        rule = "must be one number of tokens for a network that reads text"
        raise ModelError(wrong("input", text, rule, "try input=128"))
    (length,) = shape
    n_tokens = tokens or classes
    # Without data, the task shows in the fields that only it has.
    if recipe.model.attention:
        both_sides = 2 * length + 1  # as many tokens in the target, and <eos>
        return Schema("pairs", (both_sides,), tokens=n_tokens, source=length)
    if recipe.model.crf:
        return Schema("tagging", shape, names, tokens=n_tokens)
    if recipe.model.bidirectional:
        return Schema("classification", shape, names, tokens=n_tokens)
    return Schema("language", shape, tokens=n_tokens)


def show_summary(recipe: Recipe, shape: str, classes: int, tokens: int | None, json: bool) -> None:
    """Print the layers and their totals.

    tokens: of the vocabulary; without it as many as classes. Raises ModelError for a shape that the
    network cannot take.
    """
    schema = _schema(recipe, shape, classes, tokens)
    model = build_model(recipe, schema)
    layers = summarise(model, schema.input_shape)
    if json:
        print_json([dataclasses.asdict(layer) for layer in layers])
        return
    table(_HEAD, [_row(layer) for layer in layers])

    parameters = {name: p.numel() for name, p in model.named_parameters()}
    in_auxiliary = [n for name, n in parameters.items() if _is_auxiliary(name)]
    auxiliary = sum(in_auxiliary)
    main_layers = [layer for layer in layers if not _is_auxiliary(layer.name)]
    cost = sum(layer.multiply_adds for layer in main_layers)
    note = ""
    if auxiliary:
        note = f", {auxiliary:,} of them in auxiliary classifiers, which only training runs"
    kind = _KINDS[schema.task] if schema.is_text else ""
    total = sum(parameters.values())
    say(f"\n{total:,} parameters{note}, {cost:,} multiply-adds for one example{kind}")


def _row(layer: LayerSummary) -> tuple[str, ...]:
    return (
        layer.name,
        layer.kind,
        "×".join(map(str, layer.output)) or "–",
        f"{layer.parameters:,}",
        str(layer.receptive_field or "–"),
        f"{layer.multiply_adds:,}",
    )


def _is_auxiliary(name: str) -> bool:
    return name.startswith("aux")
