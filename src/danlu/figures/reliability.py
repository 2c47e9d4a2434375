"""How often predictions are right, by how confident they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from danlu.figures.style import GRID_COLOUR, PALETTE, SOFT, TRANSPARENT


def figure(
    confidence: Sequence[float], accuracy: Sequence[float], examples: Sequence[int]
) -> dict[str, Any]:
    """Return accuracy by confidence, a dot for each bin, as a Plotly dictionary.

    The area of a dot is the share of the examples; on the dotted line confidence is what it says.
    """
    largest = max(examples)
    dots = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(confidence),
        "y": list(accuracy),
        "customdata": list(examples),
        "marker": {
            "color": PALETTE[0],
            "size": [6 + 18 * (n / largest) ** 0.5 for n in examples],
            "opacity": 0.7,
        },
        "line": {"color": PALETTE[0], "width": 1},
        "hovertemplate": (
            "confidence %{x:.3f}<br>accuracy %{y:.3f}<br>%{customdata} examples<extra></extra>"
        ),
    }
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": SOFT, "dash": "dot"},
        "hoverinfo": "skip",
    }
    axis = {"gridcolor": GRID_COLOUR, "range": [-0.03, 1.03]}
    layout = {
        "height": 380,
        "width": 440,
        "showlegend": False,
        "margin": {"l": 60, "r": 16, "t": 8, "b": 50},
        "xaxis": {"title": {"text": "confidence"}, **axis},
        "yaxis": {"title": {"text": "accuracy"}, **axis},
        **TRANSPARENT,
    }
    return {"data": [dots, diagonal], "layout": layout}
