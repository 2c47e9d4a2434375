"""The zoo: a family per file, variants as rows of `MODELS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from danlu.data.inputs import Input
from danlu.errors import ModelError
from danlu.fields import Field, defaults
from danlu.models import alexnet, conv, dense, external, googlenet, recurrent, resnet, table, vgg
from danlu.models.recurrent_parts import TextSpec
from danlu.nn.init import initialise


@dataclass(frozen=True)
class Model:
    """A variant: what builds it, and the recipe fields it reads.

    init: of recipe.init, where "auto" means something else. has_batch_norm: whatever its fields
    say. reads_text: its examples are rows of tokens.
    """

    build: Callable[..., nn.Module]
    fields: tuple[Field, ...]
    init: dict[str, Any] = field(default_factory=dict)
    has_batch_norm: bool = False
    reads_text: bool = False

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults of the fields it reads."""
        return defaults(self.fields)


_SMALL_NORMAL = {"name": "normal", "std": 0.01}
MODELS: dict[str, Model] = {
    "softmax": Model(dense.build, dense.SOFTMAX_FIELDS, init=_SMALL_NORMAL),
    "softmax-explicit": Model(dense.build_explicit, (), init=_SMALL_NORMAL),
    "dense": Model(dense.build, dense.FIELDS),
    "table": Model(partial(dense.build, phm_n=1), table.FIELDS),
    "cnn": Model(conv.build, conv.FIELDS),
    "cnn-wide": Model(conv.build, conv.WIDE_FIELDS),
}
for _name in alexnet.ROWS:
    MODELS[_name] = Model(partial(alexnet.build, _name), alexnet.FIELDS)
for _name in vgg.BLOCKS:
    _fields = vgg.NARROW_FIELDS if _name == "vgg-narrow" else vgg.FIELDS
    MODELS[_name] = Model(partial(vgg.build, _name), _fields)
for _name, _row in googlenet.ROWS.items():
    MODELS[_name] = Model(
        partial(googlenet.build, _name), googlenet.FIELDS, has_batch_norm=_row.batch_norm
    )
for _name in resnet.ROWS:
    MODELS[_name] = Model(partial(resnet.build, _name), resnet.FIELDS, has_batch_norm=True)
for _name in ("rnn", "gru", "lstm"):
    _cell, *_others = recurrent.FIELDS
    MODELS[_name] = Model(
        partial(recurrent.build, _name),
        (_cell.with_default((_name,)), *_others),
        reads_text=True,
    )


def build(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    fields: dict[str, Any],
    init: dict[str, Any],
    seed: int,
    text: TextSpec | None = None,
    embeddings: table.Embeddings = (),
    inputs: Sequence[Input] = (),
) -> nn.Module:
    """Return a network with its initial values.

    fields: the model section of a recipe without its name (`args` for an importable factory).
    init: name, std and bias of `danlu.nn.init.initialise`. text: what is read, where examples are
    rows of tokens. embeddings: features of a table that are numbers of levels; an imported network
    sees them as they are. inputs: of examples that have several, which it takes apart; a network of
    the zoo sees them side by side. Raises ModelError when the input does not fit.
    """
    # Anyone's own network.
    if ":" in name:
        args = fields.get("args", {})
        model = external.build(name, input_shape, outputs, args, seed, text, inputs)
        if init["name"] == "auto":
            return model  # an imported network keeps its own initial values
    else:
        model = outline(name, input_shape, outputs, fields, text, embeddings)
        if init["name"] == "auto":
            init = {**init, **MODELS[name].init}
    # Networks without the field have ReLU.
    activation = fields.get("activation", "relu")
    initialise(model, init["name"], activation, init["std"] or 0.0, init["bias"], seed)
    return model


def outline(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    fields: dict[str, Any],
    text: TextSpec | None,
    embeddings: table.Embeddings = (),
) -> nn.Module:
    """Return the network of a row before its initial values are drawn; arguments as of `build`."""
    row = MODELS[name]
    if text and not row.reads_text:
        raise ModelError(f"{name!r} cannot read text; try model=lstm")
    if row.reads_text:
        fields = {**fields, "text": text}
    # PyTorch's layers draw weights of their own, which are overwritten; nobody's generator moves.
    with torch.random.fork_rng(devices=[]):
        if not embeddings:
            return row.build(input_shape, outputs, **fields)
        (features,) = input_shape
        table_input = table.TableInput(features, embeddings)
        model = row.build((table_input.features,), outputs, **fields)
        return table.with_input(model, table_input)
