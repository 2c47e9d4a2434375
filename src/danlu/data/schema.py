"""What the examples are: shapes, classes, columns. Travels with every run, so a prediction reads its input as training did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Task = Literal["classification", "regression", "tagging", "language", "pairs"]


@dataclass(frozen=True)
class Column:
    """One column of a table. A category with levels (a, b, c) becomes three 0/1 features."""

    name: str
    levels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Features this column becomes."""
        return len(self.levels) or 1

    @property
    def features(self) -> list[str]:
        """The names of those features."""
        return [f"{self.name}={v}" for v in self.levels] or [self.name]


@dataclass(frozen=True)
class Schema:
    """Task, shapes and names. `input_shape` is [C, H, W] for images, [F] for tables and [T] tokens for text."""

    task: Task
    input_shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    mode: str | None = None  # Pillow's "L" or "RGB" for images
    columns: tuple[Column, ...] = ()
    target: str | None = None
    scale: tuple[float, float] = field(
        default=(0.0, 1.0)
    )  # mean and spread of a regression target, training part
    vocabulary: str = ""  # of text, as `danlu.data.vocabulary.Vocabulary` takes it
    tokens: int = 0  # in the vocabulary
    source: int = 0  # of pairs: tokens at the beginning of an example that are the source
    scheme: str | None = None  # of tags that name entities: bmes, bioes or bio
    spaced: bool = True  # of tagged text: whether spaces set tokens apart, as between English words
    lines: bool = False  # of running text: whether every line is a text of its own

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
    def figures(self) -> tuple[str, ...]:
        """What a part is scored by; the first is what to choose by."""
        if self.is_regression:
            return "r2", "loss"
        if self.scheme:
            return "f1", "accuracy", "loss"
        return ("loss", "accuracy") if self.task == "language" else ("accuracy", "loss")

    def normalization(self, kind: str) -> str:
        """How inputs are brought to a network: as the recipe says, but tokens as they are."""
        return "tokens" if self.is_text else kind

    def to_json(self) -> dict[str, Any]:
        """Plain values for `data.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, d: dict[str, Any]) -> Schema:
        """The inverse of `to_json`."""
        columns = tuple(Column(c["name"], tuple(c["levels"])) for c in d["columns"])
        shape, scale = tuple(d["input_shape"]), (d["scale"][0], d["scale"][1])
        return cls(
            **{
                **d,
                "input_shape": shape,
                "classes": tuple(d["classes"]),
                "columns": columns,
                "scale": scale,
            }
        )
