"""The zoo: a family per file, variants as rows of `MODELS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from danlu.errors import ModelError
from danlu.models import alexnet, conv, dense, external, googlenet, recurrent, resnet, vgg
from danlu.models.recurrent import TextSpec
from danlu.nn.init import initialise


@dataclass(frozen=True)
class Model:
    """A variant: what builds it, and the recipe fields it uses with their defaults."""

    build: Callable[..., nn.Module]
    defaults: dict[str, Any]
    init: dict[str, Any]  # of recipe.init, where it differs from "auto"
    normed: bool = False  # whether it has batch normalisation, whatever its fields say
    reads: bool = False  # whether its examples are rows of tokens


_DENSE: dict[str, Any] = {"activation": "relu", "batch_norm": "none", "dropout": 0.0}
_CONV: dict[str, Any] = {"kernel_size": 5, "padding": 0, **_DENSE}
_STEM: dict[str, Any] = {"width": 1.0, "stem": "auto"}
_VGG: dict[str, Any] = {"batch_norm": "none", "dropout": 0.5, **_STEM}
_READS: dict[str, Any] = {
    "hidden": (128,),
    "embedding": 64,
    "bidirectional": False,
    "carry": False,
    "dropout": 0.0,
    "forget_bias": 1.0,
    "crf": False,
    "attention": False,
}
_LINEAR = {"name": "normal", "std": 0.01}
MODELS: dict[str, Model] = {
    "softmax": Model(dense.build, {"hidden": (), **_DENSE, "factor": 1}, _LINEAR),
    "softmax-explicit": Model(dense.build_explicit, {}, _LINEAR),
    "dense": Model(dense.build, {"hidden": (64, 64), **_DENSE, "factor": 1}, {}),
    "cnn": Model(conv.build, {"channels": (6, 6), "hidden": (50,), **_CONV}, {}),
    "cnn-wide": Model(conv.build, {"channels": (6, 16), "hidden": (120, 84), **_CONV}, {}),
    **{
        k: Model(partial(alexnet.build, k), {"hidden": (4096, 4096), "dropout": 0.5, **_STEM}, {})
        for k in alexnet.ROWS
    },
    **{k: Model(partial(vgg.build, k), {"hidden": (4096, 4096), **_VGG}, {}) for k in vgg.BLOCKS},
    "vgg-narrow": Model(
        partial(vgg.build, "vgg-narrow"),
        {"hidden": (), **_VGG, "batch_norm": "before", "dropout": 0.0},
        {},
    ),
    **{
        k: Model(
            partial(googlenet.build, k),
            {"dropout": 0.4, "auxiliary": 0.3, **_STEM},
            {},
            row.batch_norm,
        )
        for k, row in googlenet.ROWS.items()
    },
    **{k: Model(partial(resnet.build, k), _STEM, {}, True) for k in resnet.ROWS},
    **{
        k: Model(partial(recurrent.build, k), {"cell": (k,), **_READS}, {}, reads=True)
        for k in ("rnn", "gru", "lstm")
    },
}


def build(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    fields: dict[str, Any],
    init: dict[str, Any],
    seed: int,
    reading: TextSpec | None = None,
) -> nn.Module:
    """A network with its initial values.

    fields: the model section of a recipe without its name (`args` for an importable factory). reading: what is read,
    where examples are rows of tokens.
    init: name, std and bias of `danlu.nn.init.initialise`. Raises ModelError when the input does not fit.
    """
    if ":" in name:
        model = external.build(name, input_shape, outputs, fields.get("args", {}), seed)
        if init["name"] == "auto":
            return model  # an imported network keeps its own initial values
    else:
        model = outline(name, input_shape, outputs, fields, reading)
        init = {**init, **MODELS[name].init} if init["name"] == "auto" else init
    initialise(
        model,
        init["name"],
        fields.get("activation", "relu"),
        init["std"] or 0.0,
        init["bias"],
        seed,
    )
    return model


def outline(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    fields: dict[str, Any],
    reading: TextSpec | None,
) -> nn.Module:
    """The network of a row, before its initial values are drawn; arguments as of `build`."""
    row = MODELS[name]
    if reading and not row.reads:
        raise ModelError(f"{name!r} cannot read text; try model=lstm")
    return row.build(input_shape, outputs, **fields, **({"reading": reading} if row.reads else {}))
