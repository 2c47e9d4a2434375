"""`Recipe`: a frozen, validated, serialisable description of one training.

Every field is one technique.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator
from pydantic.fields import FieldInfo

from danlu.errors import Mistake, RecipeError, RunError, short_path, unknown, wrong
from danlu.files import Sealed, decoded, is_file, parse_toml, read_text
from danlu.imported import is_path
from danlu.models import MODELS
from danlu.recipe import aliases, overrides
from danlu.recipe import sections as s
from danlu.recipe.example_sections import Augment, Sample
from danlu.recipe.mistakes import mistakes_of
from danlu.recipe.origin import Origin
from danlu.recipe.presets import preset_text, presets
from danlu.recipe.variants import Section, Seed

# Sections and fields that are written down even where they hold their defaults.
_IMPORTING = ("model", "model.name", "loss", "loss.name")  # fields that may name anyone's code
_ALWAYS_WRITTEN = ("model", "optimizer", "batch_size", "epochs", "seed", "normalize")


class Recipe(Section):
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
    augment: Augment = Augment()
    """Random changes of training pictures."""
    sample: Sample = Sample()
    """The training examples that count."""
    early_stopping: s.EarlyStopping = s.EarlyStopping()
    """When to stop before the last epoch."""
    normalize: Literal[
        "none", "minmax", "minmax-symmetric", "zscore", "robust", "clipped", "whiten"
    ] = "zscore"
    """Scaling of the input, fitted on the training part: to [0, 1], to [−1, 1], to mean 0 and
    variance 1; robust: by median and quartiles, which outliers do not move; clipped: that, cut off
    at ±4; or PCA whitening."""
    batch_size: Annotated[int, Field(strict=True, ge=1)] = 64
    """Examples per step."""
    accumulate: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 1
    """Steps whose gradients are averaged before an update."""
    epochs: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 10
    """Passes over the training part."""
    seed: Seed = 0
    """Names all random streams: initial weights, order, masks, augmentation."""
    data_seed: Seed | None = None
    """Names the order and the augmentation of examples; without it `seed` does."""
    dtype: Literal["float32", "float64", "bf16-mixed"] = "float32"
    """Precision of weights and arithmetic; bf16-mixed: float32 weights, products in bfloat16 while
    training, which pays off on GPUs and on processors with instructions for it."""

    _origin: Origin = PrivateAttr(default_factory=Origin)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**aliases.upgrade(fields))
        except ValidationError as e:
            # Without pydantic's own error: its sentences have another grammar.
            raise RecipeError(*mistakes_of(e, type(self))) from None

    @model_validator(mode="before")
    @classmethod
    def _other_names(cls, given: Any) -> Any:
        """Understand what other libraries call a normalisation."""
        if isinstance(given, dict) and isinstance(given.get("normalize"), str):
            options = cls.model_fields["normalize"].annotation.__args__  # type: ignore[union-attr]
            name = aliases.resolve_name("normalize", given["normalize"], options)
            return {**given, "normalize": name}
        return given

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Recipe:
        """Refuse what single fields cannot see."""
        mistakes = [*self._schedule_mistakes(), *self._batch_norm_mistakes()]
        mistakes += self._sample_mistakes()
        if mistakes:
            raise RecipeError(*mistakes)
        return self

    def _schedule_mistakes(self) -> list[Mistake]:
        if self.schedule.warmup < self.epochs:
            return []
        rule = f"must be less than the {self.epochs} epochs"
        return [wrong("schedule.warmup", self.schedule.warmup, rule)]

    def _batch_norm_mistakes(self) -> list[Mistake]:
        mistakes = []
        if self.has_batch_norm and self.batch_size == 1:
            rule = "must be at least 2 with batch normalisation"
            mistakes.append(wrong("batch_size", 1, rule, "try 64"))
        if self.has_batch_norm and not self.sample.whole:
            mistakes.append(
                Mistake(
                    "`sample` leaves examples without weight, but batch normalisation would still "
                    "see them; use one of the two"
                )
            )
        return mistakes

    def _sample_mistakes(self) -> list[Mistake]:
        mistakes = []
        sample = self.sample
        if sample.fold and not sample.folds:
            mistakes.append(wrong("sample.fold", sample.fold, "needs `sample.folds`", "try 5"))
        elif sample.folds and sample.fold >= sample.folds:
            rule = f"must be less than the {sample.folds} folds"
            mistakes.append(wrong("sample.fold", sample.fold, rule))
        if sample.folds == 1:
            mistakes.append(wrong("sample.folds", 1, "must be 0 or at least 2", "try 5"))
        if sample.balanced and self.loss.class_weights == "balanced":
            rule = "must be false with `loss.class_weights=balanced`: classes would count twice"
            mistakes.append(wrong("sample.balanced", True, rule, "use one of the two"))
        return mistakes

    @property
    def has_batch_norm(self) -> bool:
        """Whether the network is known to have batch normalisation."""
        if self.model.batch_norm not in (None, "none"):
            return True
        row = MODELS.get(self.model.name)
        return row is not None and row.has_batch_norm

    @property
    def is_imported(self) -> bool:
        """Whether the network is anyone's own, `package.module:factory`."""
        return is_path(self.model.name)

    @property
    def imports(self) -> tuple[str, ...]:
        """What it names that runs anyone's own code: a network, a loss."""
        return tuple(name for name in (self.model.name, self.loss.name) if is_path(name))

    def check_trust(self, *needed: str) -> None:
        """Raise Untrusted where it names code that comes from a file, without trust.

        needed: of its imports those that are needed, by default all.
        """
        self._origin.check(needed or self.imports)

    @property
    def weights_dtype(self) -> torch.dtype:
        """The type of weights."""
        return torch.float64 if self.dtype == "float64" else torch.float32

    @property
    def order_seed(self) -> int:
        """The seed that names the order and the augmentation of examples."""
        if self.data_seed is not None:
            return self.data_seed
        return self.seed

    def to_toml(self) -> str:
        """Return the recipe as TOML.

        Every used field has its value; sections that are all default are left out.
        """
        import tomli_w

        text = tomli_w.dumps(self.to_dict())
        # A list of numbers reads better on one line.
        return re.sub(r"\[\n([^\[\]]*),\n\]", _on_one_line, text)

    def to_dict(self, whole: bool = False) -> dict[str, Any]:
        """Return plain values; without `whole`, sections that only hold defaults are left out."""
        full = self.model_dump(mode="json", exclude_none=True)
        if whole:
            return full
        plain = Recipe().model_dump(mode="json", exclude_none=True)
        kept = {}
        for name, value in full.items():
            if name in _ALWAYS_WRITTEN or value != plain.get(name):
                kept[name] = value
        return kept

    @classmethod
    def from_toml(cls, text: str, name: str = "the recipe") -> Recipe:
        """Return the recipe of a TOML text. Raises RecipeError for anything else."""
        try:
            given = parse_toml(text)
        except ValueError as e:
            raise RecipeError(f"{name} is not TOML: {e}") from e
        return cls(**given)

    def from_file(self, file: str, trust: bool) -> Recipe:
        """Return it as the recipe that was read from a file, which needs trust to import code."""
        recipe = self.model_copy()
        recipe._origin = Origin(file, () if trust else self.imports)
        return recipe

    @classmethod
    def read(cls, name: str, trust: bool = False) -> Recipe:
        """Return the recipe of a file or a run, or a preset by its name.

        trust: whether a network or loss of anyone's own that it names may be imported, which runs
        code; without it, such a recipe can be shown and changed, but not trained. Raises
        RecipeError.
        """
        # A preset wins over a file of that name, which ./NAME still reaches.
        if name in presets():
            return cls.from_toml(preset_text(name), f"preset {name!r}")
        path = Path(name)
        # False of a name too long for a file, where a path's own methods raise.
        is_run = os.path.isdir(path) and is_file(path / "run.json")
        if not is_run and not os.path.isfile(path):
            raise RecipeError(unknown("recipe", name, presets()).with_note("(or a TOML file)"))
        try:
            # The user's own file may be a link.
            text = recipe_of_run(path) if is_run else read_text(path.resolve())
            return cls.from_toml(text, path.name).from_file(path.name, trust)
        except RunError as e:
            raise RecipeError(*e.mistakes) from e

    def with_(self, changes: Sequence[str] = (), **changed: Any) -> Recipe:
        """Return the recipe with `key=value` overrides.

        A key is a dotted path, or a last name that is unique: lr=0.1. Naming another variant
        (`optimizer=sgd`) resets its section to that variant's defaults; other overrides are applied
        after that, whatever their order. Raises RecipeError with all mistakes.
        """
        mistakes: list[Mistake] = []
        parsed: list[tuple[str, Any]] = []
        for path, value in changed.items():
            parsed += aliases.upgrade_override(path, value)
        for text in changes:
            try:
                parsed += overrides.parse(text, fields())
            except RecipeError as e:
                mistakes += e.mistakes
        if mistakes:
            raise RecipeError(*mistakes)
        # A new recipe is validated as a whole, however little changed.
        tree = self.model_dump(mode="json", exclude_none=True)
        # So `lr=0.1 optimizer=sgd` keeps the rate, in whatever order it is written.
        for path, value in sorted(parsed, key=_variants_first):
            overrides.put(tree, path, value)
        recipe = Recipe(**tree)
        typed = [overrides.name_in(value) for path, value in parsed if path in _IMPORTING]
        recipe._origin = self._origin.of([name for name in recipe.imports if name not in typed])
        return recipe

    def value_of(self, path: str) -> str:
        """Return the value of a field as it is typed; of a section its variant. Empty for none."""
        values = dict(overrides.flatten(self.to_dict(whole=True)))
        value = values.get(path, values.get(f"{path}.name"))
        return "" if value is None else overrides.show(value)

    def diff(self, other: Recipe) -> list[tuple[str, Any, Any]]:
        """Return (path, here, there) for every field that differs.

        A value is None where a variant does not use the field.
        """
        here = dict(overrides.flatten(self.to_dict(whole=True)))
        there = dict(overrides.flatten(other.to_dict(whole=True)))
        differences = []
        for path in {**here, **there}:
            if here.get(path) != there.get(path):
                differences.append((path, here.get(path), there.get(path)))
        return differences


def recipe_of_run(folder: Path) -> str:
    """Return the TOML of a run's recipe. Raises RunError where it was damaged or edited."""
    file = short_path(folder / "recipe.toml")
    hint = f"; what is in it now is trained anew by: danlu fit SOURCE -r {file}"
    content = Sealed(folder / "run.json").read("recipe.toml", hint)
    return decoded(content, folder / "recipe.toml")


def _on_one_line(written: re.Match[str]) -> str:
    items = " ".join(written[1].split())
    return f"[{items}]"


def _variants_first(change: tuple[str, Any]) -> int:
    """Order overrides: sections, then names of variants, then single fields."""
    path, _ = change
    is_name = path.endswith(".name")
    return path.count(".") + (0 if is_name else 1)


@cache
def fields() -> dict[str, FieldInfo]:
    """Return every field of a recipe by its dotted path."""
    by_path: dict[str, FieldInfo] = {}
    for name, info in Recipe.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for inner, inner_info in kind.model_fields.items():
                by_path[f"{name}.{inner}"] = inner_info
        else:
            by_path[name] = info
    return by_path
