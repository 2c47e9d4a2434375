"""The sections of a recipe. A section names a variant; the fields the variant uses get its defaults, others stay unset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from pydantic_core import PydanticCustomError

from danlu.errors import unknown, wrong
from danlu.models import MODELS
from danlu.nn.cells import CELLS
from danlu.nn.init import INITS, SPREAD
from danlu.nn.layers import ACTIVATIONS
from danlu.nn.losses import LOSSES
from danlu.optim.optimizers import OPTIMIZERS
from danlu.optim.schedules import SCHEDULES


class Section(BaseModel):
    """Frozen, closed, and described by the docstring under each field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
    )


class Variant(Section):
    """A section whose `name` picks a row of a table; `"adam"` is short for `{name = "adam"}`."""

    rows: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    always: ClassVar[frozenset[str]] = frozenset({"name"})  # fields every variant has
    default: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """Expand the short form, then fill in what the variant uses and refuse what it does not."""
        if isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, dict):
            return given
        name = given.get("name", cls.default)
        if name not in cls.rows:
            return given  # the name's own check speaks
        strange = [
            k
            for k, v in given.items()
            if k in cls.model_fields
            and k not in cls.always
            and k not in cls.rows[name]
            and v is not None
        ]
        if strange:
            users = sorted(n for n, row in cls.rows.items() if strange[0] in row)
            raise PydanticCustomError("unused", "{field}\0is not used by {name}; it is by {users}",
                                      {"field": strange[0], "name": repr(name), "users": ", ".join(users)})  # fmt: skip
        return {**cls.rows[name], **{k: v for k, v in given.items() if v is not None}}


def _one_of(options: Iterable[str], extra: tuple[str, ...] = ()) -> AfterValidator:
    """A name from a table, with "did you mean"."""

    def check(value: str) -> str:
        if value in options or value in extra:
            return value
        sentence = unknown("\0", value, [*options, *extra])
        raise PydanticCustomError("unknown", "{sentence}", {"sentence": sentence})

    return AfterValidator(check)


def _model_name(value: str) -> str:
    if ":" in value and all(part.strip() for part in value.split(":", 1)):
        return value
    if value in MODELS:
        return value
    sentence = unknown("\0", value, [*MODELS, "package.module:factory"])
    if value in CELLS:
        sentence = wrong(
            "\0",
            value,
            "must be a network, and this is a cell",
            f"try model=lstm model.cell={value}",
        )
    raise PydanticCustomError("unknown", "{sentence}", {"sentence": sentence})


Positive = Annotated[FiniteFloat, Field(strict=True, gt=0)]
NotNegative = Annotated[FiniteFloat, Field(strict=True, ge=0)]
Share = Annotated[FiniteFloat, Field(strict=True, ge=0, lt=1)]
Width = Annotated[int, Field(strict=True, ge=1, le=65536)]


class Model(Variant):
    """The network."""

    rows: ClassVar[Mapping[str, Mapping[str, Any]]] = {k: m.defaults for k, m in MODELS.items()}
    always: ClassVar[frozenset[str]] = frozenset({"name", "args"})
    default: ClassVar[str] = "dense"

    name: Annotated[str, AfterValidator(_model_name)] = "dense"
    """A row of the zoo (softmax, dense, cnn, …), or `package.module:factory` for any importable `nn.Module`."""
    hidden: tuple[Width, ...] | None = None
    """Widths of the hidden dense layers, such as 64,64; of a recurrent network, units of each layer."""
    cell: tuple[Annotated[str, _one_of(CELLS)], ...] | None = None
    """Cell of a recurrent network: one for all layers, or one for each."""
    embedding: Annotated[int, Field(strict=True, ge=0, le=65536)] | None = None
    """Length of a token's vector; 0 for one-hot vectors."""
    bidirectional: Annotated[bool, Field(strict=True)] | None = None
    """Whether a text is also read from its end."""
    carry: Annotated[bool, Field(strict=True)] | None = None
    """Whether a window of running text begins with the state that the one before it ended with."""
    crf: Annotated[bool, Field(strict=True)] | None = None
    """Whether a tagger weighs whole sequences of tags (a conditional random field) instead of each tag by itself."""
    attention: Annotated[bool, Field(strict=True)] | None = None
    """Whether the writer of a second text looks back at every token of the first."""
    forget_bias: Annotated[FiniteFloat, Field(strict=True)] | None = None
    """Initial bias of an LSTM's forget gate: above 0, it remembers from the start."""
    channels: tuple[Width, ...] | None = None
    """Filters of each convolution, such as 6,6."""
    kernel_size: Annotated[int, Field(strict=True, ge=1, le=31)] | None = None
    """Side of the convolutions' windows, in pixels."""
    padding: Annotated[int, Field(strict=True, ge=0, le=15)] | None = None
    """Zeros around each convolution's input, in pixels."""
    activation: Annotated[str, _one_of(ACTIVATIONS)] | None = None
    """Activation after every hidden layer."""
    batch_norm: Literal["none", "before", "after"] | None = None
    """Batch normalisation of hidden layers, before or after the activation."""
    dropout: Share | None = None
    """Probability of zeroing a hidden dense unit in training; of a recurrent network, a unit of a layer's input or output."""
    width: Annotated[FiniteFloat, Field(strict=True, gt=0, le=16)] | None = None
    """Factor on the filters of a network's every convolution: 0.5 for half as many as published."""
    stem: Literal["auto", "full", "small"] | None = None
    """First layers of a network made for 224 pixels: full, small for pictures of few pixels, auto: small up to 64 pixels."""
    auxiliary: NotNegative | None = None
    """What the loss of each auxiliary classifier counts in training; 0 leaves them out."""
    factor: Annotated[int, Field(strict=True, ge=1, le=64)] | None = None
    """n of factorised dense layers, which cost d·q/n weights instead of d·q; 1 for ordinary ones."""
    args: dict[str, Any] | None = None
    """Arguments of an imported factory."""

    @model_validator(mode="after")
    def _gates(self) -> Model:
        """A forget gate's bias needs one; the default is no wish."""
        wished = self.forget_bias not in (None, self.rows.get(self.name, {}).get("forget_bias"))
        if wished and not any(CELLS[c].memory for c in self.cell or ()):
            cells = ", ".join(k for k, c in CELLS.items() if c.memory)
            sentence = f"forget_bias\0is not used by {', '.join(self.cell or ())}; it is by {cells}"
            raise PydanticCustomError("unused", "{sentence}", {"sentence": sentence})
        return self


class Init(Variant):
    """Initial weights."""

    rows: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "auto": {},
        **{k: {"std": 0.01} if k in SPREAD else {} for k in INITS},
    }
    always: ClassVar[frozenset[str]] = frozenset(
        {"name", "bias", "from_run", "prefix", "frozen", "lr_factor"}
    )
    default: ClassVar[str] = "auto"

    name: Annotated[str, _one_of(INITS, ("auto",))] = "auto"
    """How weights are drawn; auto: He before ReLU, Xavier before sigmoid and tanh, N(0, 0.01²) for softmax regression."""
    std: Positive | None = None
    """Standard deviation of `normal` and `uniform`."""
    bias: Annotated[FiniteFloat, Field(strict=True)] = 0.0
    """Initial value of every bias."""
    from_run: Annotated[str, Field(min_length=1)] | None = None
    """A finished run whose weights to start from, or a file of weights (safetensors, or PyTorch's .pt and .pth); none: neither,
    and the three fields below do nothing (to compare with)."""
    prefix: tuple[str, ...] = ()
    """Take only weights whose names begin with one of these, such as features; without it all, and all must fit."""
    frozen: Annotated[bool, Field(strict=True)] = False
    """Whether the weights taken stay as they are."""
    lr_factor: Positive = 1.0
    """Factor on the learning rate of the weights taken."""

    @model_validator(mode="before")
    @classmethod
    def _without(cls, given: Any) -> Any:
        """Without a start there is nothing that is taken."""
        if isinstance(given, dict) and given.get("from_run") == "none":
            return {
                k: v
                for k, v in given.items()
                if k not in ("from_run", "prefix", "frozen", "lr_factor")
            }
        return given

    @model_validator(mode="after")
    def _taken(self) -> Init:
        """Fields that say what becomes of the weights taken need some."""
        defaults = type(self).model_fields
        idle = [
            k for k in ("prefix", "frozen", "lr_factor") if getattr(self, k) != defaults[k].default
        ]
        if idle and not self.from_run:
            raise PydanticCustomError(
                "unused",
                "{field}\0needs `init.from_run`, the weights to start from",
                {"field": idle[0]},
            )
        if self.frozen and self.lr_factor != 1:
            raise PydanticCustomError(
                "unused",
                "{field}\0must be left out with `init.frozen`: those weights do not learn",
                {"field": "lr_factor"},
            )
        return self


class Loss(Section):
    """What is minimised."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    name: Annotated[str, _one_of(LOSSES, ("auto",))] = "auto"
    """auto: cross-entropy for classes, squared error (of the standardised target) for numbers."""
    label_smoothing: Share = 0.0
    """ε: labels become 1 − ε on the class and ε/(K − 1) on each other one."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: every class counts alike, however rare."""


class Optimizer(Variant):
    """The update rule."""

    rows: ClassVar[Mapping[str, Mapping[str, Any]]] = {k: r.defaults for k, r in OPTIMIZERS.items()}
    default: ClassVar[str] = "adam"

    name: Annotated[str, _one_of(OPTIMIZERS)] = "adam"
    """The rule; each has its own defaults."""
    lr: Positive | None = None
    """Learning rate α."""
    momentum: Share | None = None
    """γ of momentum and Nesterov."""
    rho: Share | None = None
    """Decay of RMSProp's squared gradients."""
    beta1: Share | None = None
    """Adam's decay of the mean gradient."""
    beta2: Share | None = None
    """Adam's decay of the squared gradient."""
    eps: Positive | None = None
    """Added to the root in the denominator."""
    weight_decay: NotNegative | None = None
    """Decoupled decay of weights (not biases): W ← (1 − lr·weight_decay)·W before each update."""


class Schedule(Variant):
    """The learning rate over time, as a factor of `optimizer.lr`; t counts epochs after the warm-up."""

    rows: ClassVar[Mapping[str, Mapping[str, Any]]] = {k: s.defaults for k, s in SCHEDULES.items()}
    always: ClassVar[frozenset[str]] = frozenset({"name", "warmup"})
    default: ClassVar[str] = "constant"

    name: Annotated[str, _one_of(SCHEDULES)] = "constant"
    """The closed form."""
    warmup: NotNegative = 0.0
    """Epochs over which the rate first climbs linearly."""
    gamma: Annotated[FiniteFloat, Field(strict=True, gt=0, le=1)] | None = None
    """Factor of `step` (each `every` epochs) and `exponential` (each epoch)."""
    every: Positive | None = None
    """Epochs between two steps."""
    decay: NotNegative | None = None
    """k of `inverse`, 1/(1 + k·t)."""
    final: Annotated[FiniteFloat, Field(strict=True, ge=0, le=1)] | None = None
    """Factor at the end of `cosine` and `one-cycle`."""
    initial: Annotated[FiniteFloat, Field(strict=True, ge=0, le=1)] | None = None
    """Factor at the start of `one-cycle`."""
    peak: Annotated[FiniteFloat, Field(strict=True, gt=0, lt=1)] | None = None
    """Share of the training after which `one-cycle` is at its highest."""


class WeightAverage(Variant):
    """An average of the weights over the training, which is what is evaluated and kept."""

    rows: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "none": {},
        "ema": {"decay": 0.999},
        "swa": {"start": 0.75},
    }
    default: ClassVar[str] = "none"

    name: Annotated[str, _one_of(("none", "ema", "swa"))] = "none"
    """ema: exponential, after every update; swa: of the weights at the end of each late epoch (Izmailov et al. 2018);
    running statistics are averaged likewise."""
    decay: Share | None = None
    """d of ema, w̄ ← d·w̄ + (1 − d)·w; at step t at most (1 + t)/(10 + t), so that the first weights are forgotten."""
    start: Annotated[FiniteFloat, Field(strict=True, ge=0, lt=1)] | None = None
    """Share of the epochs after which swa begins."""


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


class Augment(Section):
    """Random changes of the training examples, new in every epoch; 0 is off."""

    flip: Annotated[bool, Field(strict=True)] = False
    """Mirror half of them left to right."""
    rotate: Annotated[FiniteFloat, Field(strict=True, ge=0, le=180)] = 0.0
    """Turn by up to ± degrees."""
    scale: Share = 0.0
    """Enlarge by a factor within 1 ± scale."""
    shift: NotNegative = 0.0
    """Move by up to ± pixels."""
    crop: Annotated[int, Field(strict=True, ge=0, le=64)] = 0
    """Pad by that many pixels and cut the old size out at a random place."""
    noise: NotNegative = 0.0
    """Standard deviation of noise added to the normalised input (tables too)."""
    unknown: Share = 0.0
    """Of texts: the probability that a token is read as `<unk>`, so that something is learnt for unknown ones."""


class Sample(Section):
    """Which training examples count, and how often; batches stay as they are, and what does not count has no weight."""

    share: Annotated[FiniteFloat, Field(strict=True, gt=0, le=1)] = 1.0
    """Share of the training examples that count; a smaller share is part of a larger one."""
    bootstrap: Annotated[bool, Field(strict=True)] = False
    """Draw as many examples with replacement as there are."""
    folds: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    """Number of folds the training part is cut into; 0 is off."""
    fold: Annotated[int, Field(strict=True, ge=0)] = 0
    """The fold left out, 0 … folds − 1."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    """Names the draw of shares, bootstraps and folds."""

    @property
    def whole(self) -> bool:
        """Whether every example counts once."""
        return not self.folds and self.share == 1 and not self.bootstrap


class EarlyStopping(Section):
    """Stop when the validation loss no longer falls, and keep the best weights."""

    patience: Annotated[int, Field(strict=True, ge=0)] = 0
    """Epochs without improvement before stopping; 0 is off."""
    min_delta: NotNegative = 0.0
    """Fall of the loss that counts as improvement."""
