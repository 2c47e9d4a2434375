"""Recipe × schema → network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from danlu import models
from danlu.data import Schema
from danlu.data.tags import allowed_transitions
from danlu.errors import ModelError, RunError
from danlu.files import Sealed, is_file, parse_json
from danlu.formats import check_run_format
from danlu.models.given import find_given, is_object
from danlu.models.recurrent_parts import TextSpec
from danlu.models.weights import freeze, load_weights, read_weights, weights_file
from danlu.recipe.recipe import Recipe
from danlu.recipe.sections import Model

# Beginnings of the names of weights that have a row for each token.
_OF_TOKENS = ("embedding",)
_OF_TOKENS_WRITTEN = ("embedding", "output")


def build_model(
    recipe: Recipe, schema: Schema, load_start: bool = True, apply_frozen: bool = True
) -> nn.Module:
    """Return the recipe's network for examples of that schema, in its precision.

    load_start: with the weights of `init.weights`. apply_frozen: those of `init.frozen` need no
    gradient. Raises ModelError where the network does not fit the examples, RunError for weights
    that cannot be read.
    """
    recipe.check_trust(recipe.model.name)
    init = recipe.init
    name = recipe.model.name
    if load_start and is_object(name) and find_given(name) is None:
        raise ModelError(
            f"{name.partition('@')[0]!r} was given as an object to another program, which alone "
            "knows the weights it began with; begin anew with danlu.fit"
        )
    model = models.build(
        *_description(recipe.model, schema),
        init.model_dump(),
        recipe.seed,
        text_spec(schema),
        schema.embeddings,
        schema.inputs,
    ).to(recipe.weights_dtype)
    if init.weights and load_start:
        file = weights_file(init.weights)
        if _is_of_run(file):
            check_run_format(file.parent, Sealed(file.with_name("run.json")).facts().get("format"))
            _refuse_other_vocabulary(file, schema, init.prefix)
        load_weights(model, read_weights(file), init.weights, init.prefix)
    if init.frozen and apply_frozen:
        freeze(model, init.prefix)
    return model


def outline(section: Model, schema: Schema) -> nn.Module:
    """Return a network of the zoo without its initial values."""
    return models.outline(*_description(section, schema), text_spec(schema), schema.embeddings)


def _description(
    section: Model, schema: Schema
) -> tuple[str, tuple[int, ...], int, dict[str, Any]]:
    """Return a network's name, the input's shape, the number of outputs, its fields."""
    fields = section.model_dump(exclude_none=True)
    name = fields.pop("name")
    return name, schema.input_shape, schema.outputs, fields


def text_spec(schema: Schema) -> TextSpec | None:
    """Return what a network reads, where examples are rows of tokens."""
    if not schema.is_text:
        return None
    allowed = allowed_transitions(schema.classes, schema.scheme)
    return TextSpec(schema.task, schema.tokens, schema.source, allowed)


def _is_of_run(file: Path) -> bool:
    return file.name == "weights.safetensors" and is_file(file.with_name("run.json"))


def _refuse_other_vocabulary(file: Path, ours: Schema, prefix: Sequence[str]) -> None:
    """Raise RunError where a run's weights have a row for each token of another vocabulary."""
    if not ours.is_text:
        return
    theirs = _schema_of_run(file.parent)
    writes_tokens = ours.task in ("language", "pairs")
    of_tokens = _OF_TOKENS_WRITTEN if writes_tokens else _OF_TOKENS
    loads_them = not prefix or any(
        name.startswith(p) or p.startswith(name) for name in of_tokens for p in prefix
    )
    if theirs.is_text and theirs.vocabulary != ours.vocabulary and loads_them:
        raise RunError(
            "the weights of `init.weights` are for another vocabulary than these data have; "
            "load those of the layers alone, with init.prefix=layers"
        )


def _schema_of_run(folder: Path) -> Schema:
    try:
        content = Sealed(folder / "run.json").read("data.json")
        return Schema.from_json(parse_json(content)["schema"])
    except (KeyError, TypeError, ValueError) as e:
        raise RunError(
            f"{str(folder)!r} was made by another version of danlu; train it again"
        ) from e
