"""What is known of a member of a study that has ended: a line of members.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

FINISHED, STOPPED, DIVERGED = "finished", "stopped", "diverged"


@dataclass(frozen=True)
class Member:
    """A member of a study that has ended.

    status: finished, stopped (by a search, before its recipe's end) or diverged. chunk, row: where
    its weights are. result: final figures. error, step, layer: where it diverged.
    """

    member: int
    chunk: str
    row: int
    status: str
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    step: int | None = None
    layer: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; what does not apply is left out."""
        plain = asdict(self)
        unused = ["error", "step", "layer"]
        if self.status == DIVERGED:
            unused = ["result"]
        return {name: value for name, value in plain.items() if name not in unused}

    def outcome(self) -> dict[str, Any]:
        """Return what the member's own run.json says of its end."""
        plain = self.to_json()
        # Where it lies in its study means nothing in a folder of its own.
        for name in ("member", "chunk", "row"):
            del plain[name]
        return plain


def figure_of(result: Mapping[str, Any], metric: str) -> float:
    """Return a final figure to compare by: NaN where there is none, or the training diverged.

    Weights from before a divergence may serve, but they are no evidence for their recipe.
    """
    if "diverged_step" in result:
        return math.nan
    return float(result.get(metric, math.nan))
