"""What the examples are: shapes, classes, columns. Travels with every run, so a prediction reads its input as training did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Task = Literal["classification", "regression"]


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
    """Task, shapes and names. `input_shape` is [C, H, W] for images and [F] for tables."""

    task: Task
    input_shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    mode: str | None = None  # Pillow's "L" or "RGB" for images
    columns: tuple[Column, ...] = ()
    target: str | None = None
    scale: tuple[float, float] = field(default=(0.0, 1.0))  # mean and spread of a regression target, training part

    @property
    def is_image(self) -> bool:
        """Whether an example is a picture."""
        return len(self.input_shape) == 3

    @property
    def outputs(self) -> int:
        """Width of the network's last layer: K classes, or 1."""
        return len(self.classes) if self.task == "classification" else 1

    def to_json(self) -> dict[str, Any]:
        """Plain values for `data.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, d: dict[str, Any]) -> Schema:
        """The inverse of `to_json`."""
        columns = tuple(Column(c["name"], tuple(c["levels"])) for c in d["columns"])
        shape, scale = tuple(d["input_shape"]), (d["scale"][0], d["scale"][1])
        return cls(**{**d, "input_shape": shape, "classes": tuple(d["classes"]), "columns": columns, "scale": scale})
