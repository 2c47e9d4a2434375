"""The sections of a recipe. Every field is one technique."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, model_validator
from pydantic import Field as PydanticField

from danlu import metrics
from danlu.errors import unknown
from danlu.fields import Field, declared
from danlu.imported import is_path
from danlu.models import MODELS
from danlu.models import fields as model_fields
from danlu.models.recurrent import has_forget_gate
from danlu.nn.cells import CELLS
from danlu.nn.init import INITS, USES_STD
from danlu.nn.losses import LOSSES
from danlu.optim.optimizers import OPTIMIZERS
from danlu.optim.schedules import SCHEDULES
from danlu.recipe.aliases import RESETS_BEFORE, resolve_name
from danlu.recipe.variants import (
    Flag,
    NotNegative,
    Number,
    Positive,
    Rows,
    Section,
    Variant,
    declare,
    one_of,
    refuse,
)


def _model_name(value: str) -> str:
    if is_path(value):
        return value
    name = resolve_name("model.name", value, MODELS)
    if name in MODELS:
        return name
    if name in CELLS or value in RESETS_BEFORE:
        rule = "must be a network, and this is a cell"
        way_out = f"model=lstm model.cell={value}"
        if value in RESETS_BEFORE:
            way_out = "model=gru model.reset_after=false"
        raise refuse("unknown", rule=rule, hint=f"try {way_out}")
    mistake = unknown("model.name", value, [*MODELS, "package.module:factory"])
    raise refuse("unknown", rule=mistake.rule, hint=mistake.hint)


_ModelFields: Any = declare(
    "model",
    {name: row.fields for name, row in MODELS.items()},
    Annotated[str, AfterValidator(_model_name)],
    "dense",
    "A row of the zoo (softmax, dense, cnn, …), or `package.module:factory` for any importable "
    "`nn.Module`.",
)


class Model(_ModelFields):  # type: ignore[misc]
    """The network."""

    common: ClassVar[frozenset[str]] = frozenset({"name", "args"})

    args: dict[str, Any] | None = None
    """Arguments of an imported factory."""

    @model_validator(mode="after")
    def _needs_forget_gate(self) -> Model:
        """Refuse a forget gate's bias where there is no such gate; the default is no wish."""
        wished = self.forget_bias not in (None, model_fields.FORGET_BIAS.default)
        cells = self.cell or ()
        if wished and not has_forget_gate(cells):
            with_gate = ", ".join(name for name, cell in CELLS.items() if cell.memory)
            rule = f"is not used by {', '.join(cells)}; it is used by {with_gate}"
            raise refuse("unused", field="forget_bias", rule=rule)
        return self

    @model_validator(mode="after")
    def _needs_gru(self) -> Model:
        """Refuse a GRU's option where there is no GRU."""
        if self.reset_after is False and "gru" not in (self.cell or ()):
            rule = f"is not used by {', '.join(self.cell or ())}; it is used by gru"
            raise refuse("unused", field="reset_after", rule=rule)
        return self


_STD = Field("std", float, 0.01, "Standard deviation of `normal` and `uniform`.", "0.01", gt=0)
_InitFields: Any = declare(
    "init",
    {"auto": (), **{name: (_STD,) if name in USES_STD else () for name in INITS}},
    Annotated[str, one_of("init.name", INITS, "auto")],
    "auto",
    "How weights are drawn; auto: He before ReLU, Xavier before sigmoid and tanh, N(0, 0.01²) for "
    "softmax regression.",
)
_OF_LOADED_WEIGHTS = ("prefix", "frozen", "lr_factor")


class Init(_InitFields):  # type: ignore[misc]
    """Initial weights."""

    common: ClassVar[frozenset[str]] = frozenset({"name", "bias", "weights", *_OF_LOADED_WEIGHTS})

    bias: Number = 0.0
    """Initial value of every bias."""
    weights: Annotated[str, PydanticField(min_length=1)] | None = None
    """A finished run whose weights to start from, or a file of weights (safetensors, or PyTorch's
    .pt and .pth); none: neither, and the three fields below do nothing (to compare with)."""
    prefix: tuple[str, ...] = ()
    """Load only weights whose names begin with one of these, such as features; without it all of
    them, and all must fit."""
    frozen: Flag = False
    """Whether the loaded weights stay as they are."""
    lr_factor: Positive = 1.0
    """Factor on the learning rate of the loaded weights."""

    @model_validator(mode="before")
    @classmethod
    def _none_means_none(cls, given: Any) -> Any:
        """Leave out what concerns loaded weights where none are loaded."""
        if not isinstance(given, dict) or given.get("weights") != "none":
            return given
        ignored = ("weights", *_OF_LOADED_WEIGHTS)
        return {field: value for field, value in given.items() if field not in ignored}

    @model_validator(mode="after")
    def _needs_weights(self) -> Init:
        """Refuse fields that say what becomes of the loaded weights where there are none."""
        known = type(self).model_fields
        for field in _OF_LOADED_WEIGHTS:
            if getattr(self, field) != known[field].default and not self.weights:
                rule = "needs `init.weights`, the weights to start from"
                raise refuse("unused", field=field, rule=rule)
        if self.frozen and self.lr_factor != 1:
            rule = "must be left out with `init.frozen`: those weights do not learn"
            raise refuse("unused", field="lr_factor", rule=rule)
        return self


def _loss_name(value: str) -> str:
    if is_path(value):
        return value
    name = resolve_name("loss.name", value, (*LOSSES, "auto"))
    if name in LOSSES or name == "auto":
        return name
    mistake = unknown("loss.name", value, [*LOSSES, "auto", "package.module:function"])
    raise refuse("unknown", rule=mistake.rule, hint=mistake.hint)


def _class_weights(value: Any) -> Any:
    names = ("none", "balanced")
    # Written key=value, what may be a list is one.
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, str):
        if value in names:
            return value
        mistake = unknown("loss.class_weights", value, [*names, "a number for each class"])
        raise refuse("unknown", rule=mistake.rule, hint=mistake.hint)
    is_list = isinstance(value, (list, tuple))
    numbers = [x for x in value if isinstance(x, (int, float))] if is_list else []
    is_sound = is_list and len(numbers) == len(value) > 1 and all(0 <= x < 1e30 for x in numbers)
    if not is_sound or not any(numbers):
        rule = "must be none, balanced, or a number for each class, at least 0 and not all 0"
        raise refuse("unknown", rule=rule, hint="try 1,5")
    return tuple(map(float, value))


_LossFields: Any = declare(
    "loss",
    {"auto": LOSSES["cross-entropy"].fields, **{name: row.fields for name, row in LOSSES.items()}},
    Annotated[str, AfterValidator(_loss_name)],
    "auto",
    "auto: cross-entropy for classes, squared error (of the standardised target) for numbers; or "
    "`package.module:function` for anyone's own, of outputs and targets.",
)


class Loss(_LossFields):  # type: ignore[misc]
    """What is minimised."""

    common: ClassVar[frozenset[str]] = frozenset({"name", "class_weights", "args"})

    class_weights: Annotated[str | tuple[float, ...], BeforeValidator(_class_weights)] = "none"
    """balanced: every class counts alike, however rare; or a number for each class, such as 1,5, in
    the order that `danlu data` shows."""
    args: dict[str, Any] | None = None
    """Arguments of an imported loss."""


_OptimizerFields: Any = declare(
    "optimizer",
    {name: rule.fields for name, rule in OPTIMIZERS.items()},
    Annotated[str, one_of("optimizer.name", OPTIMIZERS)],
    "adam",
    "The rule; each has its own defaults.",
)


class Optimizer(_OptimizerFields):  # type: ignore[misc]
    """The update rule."""


_ScheduleFields: Any = declare(
    "schedule",
    {name: schedule.fields for name, schedule in SCHEDULES.items()},
    Annotated[str, one_of("schedule.name", SCHEDULES)],
    "constant",
    "The closed form.",
)


class Schedule(_ScheduleFields):  # type: ignore[misc]
    """The learning rate over time, a factor of `optimizer.lr`; t counts epochs after warm-up."""

    common: ClassVar[frozenset[str]] = frozenset({"name", "warmup"})

    warmup: NotNegative = 0.0
    """Epochs over which the rate first climbs linearly."""


AVERAGES: Rows = {
    "none": (),
    "ema": (
        Field(
            "decay",
            float,
            0.999,
            "d of ema, w̄ ← d·w̄ + (1 − d)·w; at step t at most (1 + t)/(10 + t), so that the first "
            "weights are forgotten.",
            hint="0.999",
            ge=0,
            lt=1,
        ),
    ),
    "swa": (
        Field(
            "start",
            float,
            0.75,
            "Share of the epochs after which swa begins.",
            hint="0.75",
            ge=0,
            lt=1,
        ),
    ),
}
_AverageFields: Any = declare(
    "average",
    AVERAGES,
    Annotated[str, one_of("average.name", AVERAGES)],
    "none",
    "ema: exponential, after every update; swa: of the weights at the end of each late epoch "
    "(Izmailov et al. 2018); running statistics are averaged likewise.",
)


class WeightAverage(_AverageFields):  # type: ignore[misc]
    """An average of the weights over the training, which is what is evaluated and kept."""


class Penalty(Section):
    """Terms added to the loss, over all weights w (not biases), m training examples."""

    l1: NotNegative = 0.0
    """λ of λ/(2m)·Σ√(w² + ε)."""
    l2: NotNegative = 0.0
    """λ of λ/(2m)·Σw²."""
    eps: Positive = 1e-8
    """ε of the smooth absolute value."""


class Clip(Section):
    """Gradient clipping; 0 is off."""

    norm: NotNegative = 0.0
    """Largest length of the whole gradient."""
    value: NotNegative = 0.0
    """Largest magnitude of one entry."""


def _metric_name(value: str) -> str:
    name = metrics.canonical(value)
    if metrics.find(name) is not None:
        return name
    mistake = unknown("early_stopping.metric", value, metrics.METRICS)
    raise refuse("unknown", rule=mistake.rule, hint=mistake.hint)


class EarlyStopping(Section):
    """Stop when the network no longer gets better on the validation part; keep the best weights."""

    patience: Annotated[int, PydanticField(strict=True, ge=0)] = 0
    """Epochs without improvement before stopping; 0 is off."""
    min_delta: NotNegative = 0.0
    """Improvement that patience counts; the best weights are kept all the same."""
    metric: Annotated[str, AfterValidator(_metric_name)] = "loss"
    """The figure to improve, such as accuracy, macro_f1, auc, mae."""


# Values to try for fields that no row of a table declares.
HINTS = {
    "batch_size": "64",
    "epochs": "10",
    "accumulate": "4",
    "init.lr_factor": "0.1",
    "augment.crop": "4",
    "augment.cutout": "8",
    "augment.mixup": "0.2",
    "augment.word_dropout": "0.05",
}


def hint_for(path: str) -> str | None:
    """Return "try …" for a field by its path, where a value is known that is worth trying."""
    section, _, name = path.rpartition(".")
    rows = _TABLES[section].rows if section in _TABLES else {}
    value = HINTS.get(path)
    if value is None:
        field = declared(rows).get(name)
        value = field.hint if field else None
    return f"try {value}" if value else None


def used_by_variants(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by path without those that the variants among them do not use.

    {"optimizer.name": "sgd", "optimizer.momentum": 0.9} is sgd alone. Without a variant's name
    among the values, nothing is known of its section.
    """
    used = {}
    for path, value in values.items():
        section, _, field = path.partition(".")
        table = _TABLES.get(section)
        name = values.get(f"{section}.name")
        if table is None or not isinstance(name, str) or field in table.common:
            used[path] = value
            continue
        row = table.rows.get(resolve_name(f"{section}.name", name, table.rows))
        if row is None or any(declared_field.name == field for declared_field in row):
            used[path] = value
    return used


_TABLES: dict[str, type[Variant]] = {
    "model": Model,
    "init": Init,
    "loss": Loss,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "average": WeightAverage,
}
