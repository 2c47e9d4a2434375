"""A confusion matrix. Legend: K classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from danlu.figures.style import HEAT, TRANSPARENT

_NUMBERS_UP_TO = 20  # classes, whose cells show their counts
_LONGEST_NAME = 24


def figure(counts: Sequence[Sequence[int]], names: Sequence[str]) -> dict[str, Any]:
    """Return counts [true, predicted] as a Plotly dictionary, coloured by share of a class."""
    # By share of the class: rare classes would be pale otherwise.
    shares = [[n / max(1, sum(row)) for n in row] for row in counts]
    short = [name if len(name) <= _LONGEST_NAME else f"{name[:23]}…" for name in names]
    side = 150 + min(560, max(220, 40 * len(names)))
    room_for_names = max(50, 7 * max(map(len, short)))  # pixels
    trace: dict[str, Any] = {
        "type": "heatmap",
        "x": list(names),
        "y": list(names),
        "z": shares,
        "customdata": counts,
        "zmin": 0,
        "zmax": 1,
        "colorscale": HEAT,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": "true %{y}<br>predicted %{x}<br>%{customdata} examples<extra></extra>",
    }
    if len(names) <= _NUMBERS_UP_TO:
        trace |= {"text": counts, "texttemplate": "%{text}"}
    # As categories: classes called 0…9 would be taken for numbers.
    ticks = {"type": "category", "tickvals": list(names), "ticktext": short}
    are_long = max(map(len, names)) > 3
    layout = {
        "height": side + room_for_names - 50,
        "width": side + room_for_names - 20,
        "margin": {"l": room_for_names + 40, "r": 16, "t": 8, "b": room_for_names + 40},
        "xaxis": {
            "title": {"text": "predicted", "standoff": 12},
            **ticks,
            "tickangle": -40 if are_long else 0,
        },
        "yaxis": {"title": {"text": "true", "standoff": 12}, **ticks, "autorange": "reversed"},
        **TRANSPARENT,
    }
    return {"data": [trace], "layout": layout}
