"""What is known of a member of a study that has ended: a line of members.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from danlu.errors import RunError
from danlu.files import with_nan
from danlu.runs.facts import Figure, first_mistake

Status = Literal["finished", "stopped", "diverged"]

FINISHED: Status = "finished"
STOPPED: Status = "stopped"
DIVERGED: Status = "diverged"


@dataclass(frozen=True)
class Member:
    """A member of a study that has ended.

    status: finished, stopped (by a search, before its recipe's end) or diverged. chunk, row: where
    its weights are. result: final figures. error, step, layer: where it diverged; last_losses: of
    the steps before that. weights, curves, measurements: digests of its weights, and of the chunk's
    files of curves and measurements, where there are some.
    """

    member: Annotated[int, Field(ge=0)]
    # Files are named by it, so a stranger must not choose it.
    chunk: Annotated[str, Field(pattern=r"^\d{6,12}x\d{1,12}-[0-9a-f]{8}$")]
    row: Annotated[int, Field(ge=0)]
    status: Status
    result: dict[str, Figure] = field(default_factory=dict)
    error: str | None = None
    step: int | None = None
    layer: str | None = None
    weights: str | None = None
    curves: str | None = None
    measurements: str | None = None
    last_losses: list[float | None] | None = None

    @classmethod
    def from_json(cls, plain: Any, file: Path) -> Member:
        """Return the member of a line of a file. Raises RunError for anything else."""
        try:
            member = _adapter().validate_python(plain)
        except ValidationError as e:
            raise RunError(f"{file} is foreign: {first_mistake(e)}") from None
        member.result.update(with_nan(member.result))
        return member

    def to_json(self) -> dict[str, Any]:
        """Return plain values; what does not apply is left out."""
        plain = asdict(self)
        unused = ["error", "step", "layer", "last_losses"]
        if self.status == DIVERGED:
            unused = ["result"]
        for name in ("curves", "measurements"):
            if plain[name] is None:
                unused.append(name)
        return {name: value for name, value in plain.items() if name not in unused}

    def outcome(self) -> dict[str, Any]:
        """Return what the member's own run.json says of its end."""
        plain = self.to_json()
        # Where it lies in its study means nothing in a folder of its own.
        for name in ("member", "chunk", "row", "weights", "curves", "measurements"):
            plain.pop(name, None)
        return plain


@cache
def _adapter() -> TypeAdapter[Member]:
    return TypeAdapter(Member)


def figure_of(result: Mapping[str, Any], metric: str) -> float:
    """Return a final figure to compare by: NaN where there is none, or the training diverged.

    Weights from before a divergence may serve, but they are no evidence for their recipe.
    """
    if "diverged_step" in result:
        return math.nan
    return float(result.get(metric, math.nan))
