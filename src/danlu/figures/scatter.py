"""Predicted against true values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from danlu.figures.style import GRID_COLOUR, PALETTE, SOFT, TRANSPARENT


def figure(true: Sequence[float], predicted: Sequence[float]) -> dict[str, Any]:
    """Return a dot for each example, and the line where both are equal, as a Plotly dictionary."""
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": list(true),
        "y": list(predicted),
        "marker": {"color": PALETTE[0], "size": 6, "opacity": 0.6},
    }
    ends = [min(true), max(true)]
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": ends,
        "y": ends,
        "line": {"color": SOFT, "dash": "dot"},
        "showlegend": False,
    }
    layout = {
        "height": 420,
        "width": 480,
        "showlegend": False,
        "margin": {"l": 60, "r": 16, "t": 8, "b": 50},
        "xaxis": {"title": {"text": "true"}, "gridcolor": GRID_COLOUR},
        "yaxis": {"title": {"text": "predicted"}, "gridcolor": GRID_COLOUR},
        **TRANSPARENT,
    }
    return {"data": [dots, diagonal], "layout": layout}
