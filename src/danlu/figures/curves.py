"""Curves of a run, by epoch."""

from __future__ import annotations

from typing import Any

from danlu.data.parts import TITLES
from danlu.figures.style import PART_COLOURS, two_panels

_MARKERS_UP_TO = 24  # epochs
_EACH_EPOCH_UP_TO = 10  # epochs that each have a tick


def figure(history: list[dict[str, Any]], metric: str = "accuracy") -> dict[str, Any]:
    """Return loss on the left, accuracy (or R²) on the right, as a Plotly dictionary."""
    epochs = [row["epoch"] for row in history]
    traces = []
    for axis, quantity in (("", "loss"), ("2", metric)):
        for part, colour in PART_COLOURS.items():
            values = [row.get(f"{part}_{quantity}") for row in history]
            # There may be no validation part.
            if all(value is None for value in values):
                continue
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(epochs) <= _MARKERS_UP_TO else "lines",
                    "x": epochs,
                    "y": values,
                    "name": TITLES[part],
                    "legendgroup": part,
                    "showlegend": quantity == "loss",
                    "line": {"color": colour, "width": 2},
                    "xaxis": f"x{axis}",
                    "yaxis": f"y{axis}",
                }
            )
    layout = two_panels("loss", metric, height=340)
    layout["margin"] = {"l": 56, "r": 16, "t": 16, "b": 48}
    layout["legend"] = {"orientation": "h", "y": 1.12}
    # Between whole epochs there is nothing.
    ticks = {"dtick": 1} if len(epochs) <= _EACH_EPOCH_UP_TO else {"tickformat": "d"}
    layout["xaxis"] |= ticks
    layout["xaxis2"] |= ticks
    return {"data": traces, "layout": layout}
