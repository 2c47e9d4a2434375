"""What the examples are: shapes, classes, columns.

A schema travels with every run, so a prediction reads its input as training did.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from danlu import metrics
from danlu.data.column import Column
from danlu.data.inputs import Input

Task = Literal["classification", "regression", "tagging", "language", "pairs"]


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
    identifiers: tuple[str, ...] = ()
    """Columns of a table that name its rows: they are left out, and kept beside predictions."""
    target: str | None = None
    text_column: str | None = None
    """Of text from a table: the column that held it; of pairs, the source's."""
    target_style: str = ""
    """Of numbers to predict: how they are written, as `Column.style`."""
    log_target: bool = False
    """Whether the logarithm of a target is learnt; predictions are not logarithms."""
    scale: tuple[float, float] = (0.0, 1.0)
    """Mean and standard deviation in the training part of a target, or of its logarithm."""
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
    inputs: tuple[Input, ...] = ()
    """Of examples with several inputs: what lies side by side in a row."""

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
    def metrics(self) -> tuple[str, ...]:
        """What a part can be scored by; the first is what to choose by, see `metrics.default`."""
        return metrics.available(self.task, len(self.classes), bool(self.scheme))

    def has_metric(self, name: str) -> bool:
        """Whether a part can be scored by a figure of that name."""
        return metrics.is_available(name, self.task, len(self.classes), bool(self.scheme))

    @property
    def is_table(self) -> bool:
        """Whether an example is a row of numbers and categories."""
        return bool(self.columns) and len(self.input_shape) == 1

    @property
    def is_measured(self) -> tuple[bool, ...]:
        """Of each feature of a table, whether it is a number to be standardised."""
        measured: list[bool] = []
        for part in self.inputs:
            measured += [not part.whole] * part.size
        for column in self.columns:
            measured += column.is_measured
        return tuple(measured)

    @property
    def feature_names(self) -> list[str]:
        """What the features of an example in a row are called; the number of one without a name."""
        names = []
        for k, part in enumerate(self.inputs):
            name = part.name or str(k)
            names += [name] if part.size == 1 else [f"{name} {i}" for i in range(part.size)]
        for column in self.columns:
            names += column.features
        return names or [str(i) for i in range(math.prod(self.input_shape))]

    @property
    def column_of_features(self) -> list[str]:
        """The column that each feature comes from; of one without a column, its own name."""
        if not self.columns or self.inputs:
            return self.feature_names
        return [column.name for column in self.columns for _ in column.features]

    @property
    def embeddings(self) -> tuple[tuple[int, int], ...]:
        """Features that are numbers of levels: (place among the features, how many levels)."""
        found = []
        place = 0
        for column in self.columns:
            if column.is_embedded:
                found.append((place, column.n_levels))
            place += column.width
        return tuple(found)

    def normalization(self, kind: str) -> str:
        """Return how inputs are normalised: as the recipe says, but tokens are left as they are."""
        return "tokens" if self.is_text else kind

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `data.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Any) -> Schema:
        """Return the schema of plain values, the inverse of `to_json`.

        Raises ValueError for anything else.
        """
        from pydantic import TypeAdapter

        schema: Schema = TypeAdapter(cls).validate_python(plain)
        if not schema.input_shape or min(schema.input_shape) < 1 or schema.tokens < 0:
            raise ValueError("`input_shape` must be sizes of at least 1")
        return schema
