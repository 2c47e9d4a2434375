"""Other names that recipes understand: former ones, and those of other libraries.

Fields were renamed to the field's words; a recipe or a run from before goes on working.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from danlu.errors import RecipeError

# Former paths of fields.
FIELDS: dict[str, str] = {
    "model.carry": "model.stateful",
    "model.factor": "model.phm_n",
    "init.from_run": "init.weights",
    "augment.unknown": "augment.word_dropout",
}
# What other libraries call a field: meant, but not taken for it without a word.
OTHERS = {
    "learningrate": "optimizer.lr",
    "alpha": "optimizer.lr",
    "numepochs": "epochs",
    "nepochs": "epochs",
    "maxepochs": "epochs",
    "nepoch": "epochs",
    "bs": "batch_size",
    "batch": "batch_size",
    "hiddensize": "model.hidden",
    "hiddendim": "model.hidden",
    "hiddenlayers": "model.hidden",
    "layers": "model.hidden",
    "hiddenlayersizes": "model.hidden",
    "dropoutrate": "model.dropout",
    "embeddim": "model.embedding",
    "embeddingdim": "model.embedding",
    "gradclip": "clip.norm",
    "gradientclip": "clip.norm",
    "maxgradnorm": "clip.norm",
    "scheduler": "schedule.name",
    "lrscheduler": "schedule.name",
    "randomstate": "seed",
    "randomseed": "seed",
}
# What other libraries call a value.
VALUES: dict[str, dict[str, str]] = {
    "init.name": {
        "kaiming": "he",
        "kaiming-normal": "he",
        "xavier-normal": "glorot",
        "lecun": "xavier",
        "lecun-normal": "xavier",
    },
    "loss.name": {
        "mse": "squared-error",
        "ce": "cross-entropy",
        "nll": "cross-entropy",
        "mae": "absolute-error",
        "l1": "absolute-error",
        "absolute": "absolute-error",
        "smooth-l1": "huber",
    },
    "optimizer.name": {"nag": "nesterov"},
    "schedule.name": {
        "multi-step": "step",
        "cosine-annealing": "cosine",
        "cosine-warm-restarts": "warm-restarts",
        "sgdr": "warm-restarts",
        "reduce-on-plateau": "plateau",
    },
    "average.name": {"polyak": "ema"},
    "normalize": {"standard": "zscore", "standardize": "zscore", "min-max": "minmax"},
    "model.activation": {"lrelu": "leaky-relu", "linear": "identity"},
}
# Was a cell of its own, and is one inside; now model.reset_after=false.
RESETS_BEFORE = ("gru-before", "gru-reset-before")


def plain(name: str) -> str:
    """Return a name without what spellings differ in: case, hyphens, underscores."""
    return name.lower().replace("-", "").replace("_", "")


def resolve_name(path: str, value: str, options: Iterable[str]) -> str:
    """Return the option that a name means, or the name itself where none is meant."""
    known = list(options)
    if value in known:
        return value
    meant = {plain(alias): name for alias, name in VALUES.get(path, {}).items()}
    # Our own names win over other libraries'.
    meant |= {plain(name): name for name in known}
    return meant.get(plain(value), value)


def meant_field(name: str) -> str | None:
    """Return the field that another library's name means."""
    return OTHERS.get(plain(name.rpartition(".")[2]))


def note(path: str) -> str | None:
    """Return a sentence on a field's new name, for a former one."""
    if path not in FIELDS:
        return None
    return f"`{path}` is now called `{FIELDS[path]}`"


def upgrade(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a recipe with former names replaced."""
    upgraded = dict(fields)
    for old, new in FIELDS.items():
        section, _, old_name = old.partition(".")
        _, _, new_name = new.partition(".")
        given = upgraded.get(section)
        if isinstance(given, Mapping) and old_name in given:
            _warn(old)
            renamed = dict(given)
            renamed[new_name] = renamed.pop(old_name)
            upgraded[section] = renamed
    model = upgraded.get("model")
    if isinstance(model, Mapping) and "cell" in model:
        upgraded["model"] = {**model, **_upgrade_cell(model["cell"])}
    loss = upgraded.get("loss")
    if isinstance(loss, Mapping) and loss.get("label_smoothing") == 0:
        # Recipes wrote it down for every loss, also for those without it.
        upgraded["loss"] = {k: v for k, v in loss.items() if k != "label_smoothing"}
    return upgraded


def upgrade_override(path: str, value: Any) -> list[tuple[str, Any]]:
    """Return the override, or overrides, that one with a former name or value means."""
    if path == "model.cell":
        return [(f"model.{name}", v) for name, v in _upgrade_cell(value).items()]
    if path in FIELDS:
        _warn(path)
        path = FIELDS[path]
    return [(path, value)]


def _upgrade_cell(cell: Any) -> dict[str, Any]:
    names = (cell,) if isinstance(cell, str) else cell
    if not isinstance(names, (list, tuple)):
        return {"cell": cell}
    former = [name for name in names if name in RESETS_BEFORE]
    if not former:
        return {"cell": cell}
    if "gru" in names:
        raise RecipeError(
            f"`model.cell` mixes gru and {former[0]}, which is no longer possible; "
            "use gru for all layers, with model.reset_after true or false"
        )
    cells = ["gru" if name in former else name for name in names]
    return {"cell": cells, "reset_after": False}


def _warn(path: str) -> None:
    warnings.warn(str(note(path)), DeprecationWarning, stacklevel=4)
