"""Figures of what was measured while training, from plain columns. Legend: S steps, L layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from danlu.figures.style import colour, dash, two_panels

Columns = Mapping[str, Sequence[Any]]

_MOST_LAYERS = 12  # that are drawn; of more an even sample


def layers_of(columns: Columns, column: str) -> list[str]:
    """Return the layers that have a figure, the first to see an example first."""
    found = []
    for layer, value in zip(columns.get("layer", ()), columns.get(column, ()), strict=False):
        if layer and value is not None and layer not in found:
            found.append(layer)
    every = -(-len(found) // _MOST_LAYERS)
    return found[:: max(1, every)]


def by_layer(columns: Columns, left: tuple[str, str], right: tuple[str, str]) -> dict[str, Any]:
    """Return two figures of every layer over the steps, on logarithmic axes.

    left, right: column and title.
    """
    traces: list[dict[str, Any]] = []
    for axis, (column, _) in (("", left), ("2", right)):
        for k, layer in enumerate(layers_of(columns, column)):
            steps, values = _series(columns, layer, column)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": steps,
                    "y": [value if value > 0 else None for value in values],
                    "name": layer,
                    "legendgroup": layer,
                    "showlegend": not axis,
                    "line": {"color": colour(k), "dash": dash(k), "width": 2},
                    "xaxis": f"x{axis}",
                    "yaxis": f"y{axis}",
                }
            )
    layout = two_panels(left[1], right[1], height=360)
    for axis in ("", "2"):
        layout[f"yaxis{axis}"] |= {"type": "log", "exponentformat": "power"}
        layout[f"xaxis{axis}"]["title"] = {"text": "step"}
    layout["margin"] = {"l": 64, "r": 16, "t": 16, "b": 48}
    layout["legend"] = {"orientation": "h", "y": 1.16}
    return {"data": traces, "layout": layout}


def histograms(columns: Columns) -> dict[str, Any] | None:
    """Return what each layer gives at the first measured step and at the last, as outlines.

    None where no histogram was measured.
    """
    layers = layers_of(columns, "histogram")
    if not layers:
        return None
    traces: list[dict[str, Any]] = []
    for axis, last in (("", False), ("2", True)):
        for k, layer in enumerate(layers):
            x, y = _outline(columns, layer, last)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": x,
                    "y": y,
                    "name": layer,
                    "legendgroup": layer,
                    "showlegend": not axis,
                    "line": {"color": colour(k), "dash": dash(k), "width": 1.5, "shape": "hvh"},
                    "xaxis": f"x{axis}",
                    "yaxis": f"y{axis}",
                }
            )
    layout = two_panels("share of values, at the start", "at the end", height=340)
    for axis in ("", "2"):
        layout[f"xaxis{axis}"]["title"] = {"text": "value"}
    layout["margin"] = {"l": 64, "r": 16, "t": 16, "b": 48}
    layout["legend"] = {"orientation": "h", "y": 1.16}
    return {"data": traces, "layout": layout}


def _series(columns: Columns, layer: str, column: str) -> tuple[list[int], list[float]]:
    steps, values = [], []
    for step, name, value in zip(columns["step"], columns["layer"], columns[column], strict=True):
        if name == layer and value is not None and math.isfinite(value):
            steps.append(int(step))
            values.append(float(value))
    return steps, values


def _outline(columns: Columns, layer: str, last: bool) -> tuple[list[float], list[float]]:
    """Return the middles of the bins of a layer's histogram, and the share of values in each."""
    named = ("layer", "histogram", "histogram_low", "histogram_high")
    everything = zip(*(columns[name] for name in named), strict=True)
    rows = [row for row in everything if row[0] == layer and row[1]]
    if not rows:
        return [], []
    _, counts, low, high = rows[-1 if last else 0]
    total = sum(counts) or 1.0
    width = (high - low) / len(counts)
    return [low + (k + 0.5) * width for k in range(len(counts))], [c / total for c in counts]
