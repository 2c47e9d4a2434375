"""`Recipe`: a frozen, validated, serialisable description of one training. Every field is one technique."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from danlu.errors import RecipeError, nearest, unknown, wrong
from danlu.models import MODELS
from danlu.recipe import sections as s
from danlu.recipe.mistakes import sentences


class Recipe(s.Section):
    """How to train one network.

    >>> Recipe(model="cnn", optimizer={"name": "sgd", "lr": 0.05}, epochs=5)

    Raises RecipeError with one sentence per mistake.
    """

    model: s.Model = s.Model()
    """The network."""
    init: s.Init = s.Init()
    """Initial weights."""
    loss: s.Loss = s.Loss()
    """What is minimised."""
    optimizer: s.Optimizer = s.Optimizer()
    """The update rule."""
    schedule: s.Schedule = s.Schedule()
    """The learning rate over time."""
    penalty: s.Penalty = s.Penalty()
    """L1 and L2 terms."""
    clip: s.Clip = s.Clip()
    """Gradient clipping."""
    average: s.WeightAverage = s.WeightAverage()
    """An average of the weights over the training."""
    augment: s.Augment = s.Augment()
    """Random changes of training pictures."""
    sample: s.Sample = s.Sample()
    """The training examples that count."""
    early_stopping: s.EarlyStopping = s.EarlyStopping()
    """When to stop before the last epoch."""
    normalize: Literal["none", "minmax", "minmax-symmetric", "zscore", "whiten"] = "zscore"
    """Scaling of the input, fitted on the training part: to [0, 1], to [−1, 1], to mean 0 and variance 1, or PCA whitening."""
    batch_size: Annotated[int, Field(strict=True, ge=1)] = 64
    """Examples per step."""
    accumulate: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 1
    """Steps whose gradients are averaged before an update."""
    epochs: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 10
    """Passes over the training part."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    """Names all random streams: initial weights, order, masks, augmentation."""
    data_seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] | None = None
    """Names the order and the augmentation of examples; without it `seed` does."""
    dtype: Literal["float32", "float64", "bf16-mixed"] = "float32"
    """Precision of weights and arithmetic; bf16-mixed: float32 weights, products in bfloat16 while training, which
    pays on GPUs and on processors with instructions for it."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as e:
            raise RecipeError(*sentences(e, type(self))) from None

    @model_validator(mode="after")
    def _together(self) -> Recipe:
        """What single fields cannot see."""
        mistakes = []
        if self.schedule.warmup >= self.epochs:
            mistakes.append(
                wrong(
                    "schedule.warmup",
                    self.schedule.warmup,
                    f"must be less than the {self.epochs} epochs",
                )
            )
        if self.batch_size == 1 and self.normed:
            mistakes.append(
                wrong("batch_size", 1, "must be at least 2 with batch normalisation", "try 64")
            )
        if self.sample.fold >= max(1, self.sample.folds):
            rule = (
                f"must be less than the {self.sample.folds} folds"
                if self.sample.folds
                else "needs `sample.folds`"
            )
            mistakes.append(
                wrong("sample.fold", self.sample.fold, rule, None if self.sample.folds else "try 5")
            )
        if self.sample.folds == 1:
            mistakes.append(wrong("sample.folds", 1, "must be 0 or at least 2", "try 5"))
        if not self.sample.whole and self.normed:
            mistakes.append(
                "`sample` leaves examples without weight, but batch normalisation would still see them; use one of the two"
            )
        if mistakes:
            raise RecipeError(*mistakes)
        return self

    @property
    def normed(self) -> bool:
        """Whether the network is known to have batch normalisation."""
        row = MODELS.get(self.model.name)
        return self.model.batch_norm not in (None, "none") or (row is not None and row.normed)

    @property
    def weights_dtype(self) -> torch.dtype:
        """The type of weights."""
        return torch.float64 if self.dtype == "float64" else torch.float32

    @property
    def order_seed(self) -> int:
        """What names the order and the augmentation of examples."""
        return self.seed if self.data_seed is None else self.data_seed

    def to_toml(self) -> str:
        """The recipe as TOML: every used field with its value, sections that are all default left out."""
        import tomli_w

        return re.sub(
            r"\[\n([^\[\]]*),\n\]",
            lambda m: f"[{' '.join(m[1].split())}]",
            tomli_w.dumps(self.to_dict()),
        )

    def to_dict(self, whole: bool = False) -> dict[str, Any]:
        """Plain values; without `whole`, sections that only hold defaults are left out."""
        full = self.model_dump(mode="json", exclude_none=True)
        plain = Recipe().model_dump(mode="json", exclude_none=True)
        keep = ("model", "optimizer", "batch_size", "epochs", "seed", "normalize")
        return full if whole else {k: v for k, v in full.items() if k in keep or v != plain.get(k)}

    @classmethod
    def from_toml(cls, text: str, name: str = "the recipe") -> Recipe:
        """The inverse of `to_toml`. Raises RecipeError for what is no TOML or no recipe."""
        try:
            given = tomllib.loads(text)
        except tomllib.TOMLDecodeError as e:
            raise RecipeError(f"{name} is no TOML: {e}") from e
        return cls(**given)

    @classmethod
    def read(cls, name: str) -> Recipe:
        """A recipe file, or a preset by its name."""
        path = Path(name)
        if name in presets():
            return cls.from_toml(preset_text(name), f"preset {name!r}")
        if path.is_dir() and (path / "recipe.toml").is_file():
            path = path / "recipe.toml"  # a run's recipe
        if not path.is_file():
            raise RecipeError(unknown("recipe", name, presets()) + " (or a TOML file)")
        try:
            return cls.from_toml(path.read_text(encoding="utf-8"), path.name)
        except (OSError, UnicodeDecodeError) as e:
            raise RecipeError(f"{path.name} cannot be read: {e}") from e

    def with_(self, overrides: Sequence[str] = (), **fields: Any) -> Recipe:
        """The recipe with `key=value` overrides (dotted paths, or a last name that is unique: lr=0.1).

        Naming another variant (`optimizer=sgd`) resets its section to that variant's defaults; other
        overrides are applied after that, whatever their order.
        """
        mistakes: list[str] = []
        changes: list[tuple[str, Any]] = list(fields.items())
        for text in overrides:
            key, equals, value = text.partition("=")
            if not equals:
                mistakes.append(
                    f"`{text}` is no override; write key=value, such as optimizer.lr=0.01"
                )
                continue
            try:
                changes.append(
                    (resolve(key.strip()), parse_value(value.strip(), resolve(key.strip())))
                )
            except RecipeError as e:
                mistakes += e.mistakes
        if mistakes:
            raise RecipeError(*mistakes)
        tree = self.model_dump(mode="json", exclude_none=True)
        for path, value in sorted(
            changes, key=lambda c: c[0].count(".") + (not c[0].endswith(".name"))
        ):
            _put(tree, path, value)
        return Recipe(**tree)

    def diff(self, other: Recipe) -> list[tuple[str, Any, Any]]:
        """(path, here, there) for every field that differs; None where a variant does not use it."""
        a, b = dict(flatten(self.to_dict(whole=True))), dict(flatten(other.to_dict(whole=True)))
        return [(k, a.get(k), b.get(k)) for k in {**a, **b} if a.get(k) != b.get(k)]


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    section, _, leaf = path.partition(".")
    held = tree.get(section)
    if isinstance(held, dict) and not leaf and not isinstance(value, dict):
        leaf = "name"
    if not leaf:
        tree[section] = value
    elif leaf == "name" and "name" in held:  # type: ignore[operator]
        if held["name"] != value:  # type: ignore[index]
            tree[section] = {"name": value}
    else:
        inner, _, rest = leaf.partition(".")
        tree[section] = {
            **(held or {}),
            inner: {**(held or {}).get(inner, {}), rest: value} if rest else value,
        }


def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted paths and values of nested sections."""
    for key, value in tree.items():
        if isinstance(value, dict) and key != "args":
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def fields() -> dict[str, FieldInfo]:
    """Every field of a recipe by its dotted path."""
    found: dict[str, FieldInfo] = {}
    for name, info in Recipe.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.update({f"{name}.{k}": v for k, v in kind.model_fields.items()})
        else:
            found[name] = info
    return found


def resolve(key: str) -> str:
    """A full path from a full path, a section, or a last name that only one section has."""
    paths = fields()
    if key in paths or key in Recipe.model_fields or key.startswith("model.args."):
        return key
    owners = [p for p in paths if p.rpartition(".")[2] == key]
    if len(owners) == 1:
        return owners[0]
    if owners:
        raise RecipeError(
            f"`{key}` could be {' or '.join(f'`{o}`' for o in owners)}; write the whole path"
        )
    near = nearest(key, [*paths, *Recipe.model_fields, *(p.rpartition(".")[2] for p in paths)])
    raise RecipeError(
        f"`{key}` is no field of a recipe"
        + (f"; did you mean `{near}`?" if near else "; `danlu recipe fields` lists them")
    )


def parse_value(text: str, path: str) -> Any:
    """TOML where it parses, a list where commas are, else the text itself."""
    info = fields().get(path)
    listed = info is not None and any(
        "tuple" in str(a) for a in (info.annotation, *get_args(info.annotation))
    )
    if listed:
        return [
            parse_value(part.strip(), "") for part in text.strip("[]()").split(",") if part.strip()
        ]
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        pass
    try:
        return float(text)  # TOML knows 1e-3, but neither .5 nor 1.
    except ValueError:
        return text


def presets() -> list[str]:
    """Names of the recipes that come with danlu."""
    folder = resources.files("danlu.recipe") / "presets"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def preset_text(name: str) -> str:
    """A preset's TOML."""
    return (resources.files("danlu.recipe") / "presets" / f"{name}.toml").read_text(
        encoding="utf-8"
    )
