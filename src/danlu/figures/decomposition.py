"""Figures of bias and variance, from plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from danlu.figures.style import AXIS, PALETTE, SOFT, TRANSPARENT
from danlu.statistics import Estimate


class Parts(Protocol):
    """The parts of an expected loss."""

    @property
    def loss(self) -> Estimate: ...  # noqa: D102
    @property
    def bias(self) -> Estimate: ...  # noqa: D102
    @property
    def variance(self) -> Estimate: ...  # noqa: D102
    @property
    def noise(self) -> float | None: ...  # noqa: D102


def bars(names: Sequence[str], found: Sequence[Parts], title: str) -> dict[str, Any]:
    """Return noise, bias² and variance of each variant, one upon the other, and the whole loss."""
    shown = [(name if name != "recipe" else "the recipe") for name in names]
    rows = [
        ("bias²", PALETTE[1], [max(0.0, parts.bias.mean) for parts in found]),
        ("variance", PALETTE[0], [parts.variance.mean for parts in found]),
    ]
    if any(parts.noise is not None for parts in found):
        rows.insert(0, ("noise", SOFT, [parts.noise or 0.0 for parts in found]))
    traces: list[dict[str, Any]] = []
    for label, colour, values in rows:
        traces.append(
            {
                "type": "bar",
                "name": label,
                "x": shown,
                "y": values,
                "marker": {"color": colour},
            }
        )
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"expected {title}",
            "x": shown,
            "y": [parts.loss.mean for parts in found],
            "marker": {"color": "#2b2622", "symbol": "line-ew-open", "size": 26},
        }
    )
    layout = {
        "height": 380,
        "barmode": "stack",
        "margin": {"l": 60, "r": 16, "t": 16, "b": 60},
        "legend": {"orientation": "h", "y": 1.14},
        "xaxis": {"type": "category", **AXIS},
        "yaxis": {"title": {"text": title}, "rangemode": "tozero", **AXIS},
        **TRANSPARENT,
    }
    return {"data": traces, "layout": layout}
