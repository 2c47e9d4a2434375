"""What the examples are: shapes, classes, columns.

A schema travels with every run, so a prediction reads its input as training did.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Task = Literal["classification", "regression", "tagging", "language", "pairs"]


@dataclass(frozen=True)
class Column:
    """One column of a table. A category with levels (a, b, c) becomes three 0/1 features."""

    name: str
    levels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many features this column becomes."""
        return len(self.levels) or 1

    @property
    def features(self) -> list[str]:
        """The names of those features."""
        if not self.levels:
            return [self.name]
        return [f"{self.name}={level}" for level in self.levels]


@dataclass(frozen=True)
class Schema:
    """Task, shapes and names."""

    task: Task
    input_shape: tuple[int, ...]
    """[C, H, W] for images, [F] for tables, [T] tokens for text."""
    classes: tuple[str, ...] = ()
    mode: str | None = None
    """Pillow's "L" or "RGB" for images."""
    columns: tuple[Column, ...] = ()
    target: str | None = None
    scale: tuple[float, float] = (0.0, 1.0)
    """Mean and standard deviation of a regression target in the training part."""
    vocabulary: str = ""
    """Of text, as `danlu.data.vocabulary.Vocabulary` takes it."""
    tokens: int = 0
    """How many tokens the vocabulary has."""
    source: int = 0
    """Of pairs: how many tokens at the beginning of an example are the source."""
    scheme: str | None = None
    """Of tags that name entities: bmes, bioes or bio."""
    spaced: bool = True
    """Of tagged text: whether tokens are separated by spaces, as English words are."""
    lines: bool = False
    """Of running text: whether every line is a text of its own."""

    @property
    def is_image(self) -> bool:
        """Whether an example is a picture."""
        return len(self.input_shape) == 3

    @property
    def outputs(self) -> int:
        """Width of the network's last layer: K classes, the tokens of the vocabulary, or 1."""
        return len(self.classes) or self.tokens or 1

    @property
    def is_text(self) -> bool:
        """Whether an example is a row of tokens."""
        return bool(self.tokens)

    @property
    def each_token(self) -> bool:
        """Whether every token has a target, −1 where there is none."""
        return self.task in ("tagging", "language", "pairs")

    @property
    def is_regression(self) -> bool:
        """Whether targets are numbers."""
        return self.task == "regression"

    @property
    def metric(self) -> str:
        """ "accuracy" for classes, "r2" for numbers."""
        return "r2" if self.is_regression else "accuracy"

    @property
    def figures(self) -> tuple[str, ...]:
        """What a part is scored by; the first is what to choose by."""
        if self.is_regression:
            return "r2", "loss"
        if self.scheme:
            return "f1", "accuracy", "loss"
        if self.task == "language":
            return "loss", "accuracy"
        return "accuracy", "loss"

    def normalization(self, kind: str) -> str:
        """Return how inputs are normalised: as the recipe says, but tokens are left as they are."""
        return "tokens" if self.is_text else kind

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `data.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Schema:
        """Return the schema of plain values, the inverse of `to_json`."""
        # JSON knows lists only; a schema is compared and hashed.
        columns = []
        for column in plain["columns"]:
            columns.append(Column(column["name"], tuple(column["levels"])))
        mean, std = plain["scale"]
        typed = {
            "input_shape": tuple(plain["input_shape"]),
            "classes": tuple(plain["classes"]),
            "columns": tuple(columns),
            "scale": (mean, std),
        }
        return cls(**{**plain, **typed})
