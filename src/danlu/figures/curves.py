"""Curves of a run as a figure (a plain Plotly dictionary, for the report, a notebook and the page alike)."""

from __future__ import annotations

from typing import Any

COLOURS = {"train": "#8c6bb1", "valid": "#d9772b"}


def figure(history: list[dict[str, Any]], metric: str = "accuracy") -> dict[str, Any]:
    """Loss on the left, accuracy (or R²) on the right, by epoch."""
    epochs = [row["epoch"] for row in history]
    traces = []
    for axis, quantity in (("", "loss"), ("2", metric)):
        for part, colour in COLOURS.items():
            values = [row.get(f"{part}_{quantity}") for row in history]
            if any(v is not None for v in values):
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "lines+markers" if len(epochs) < 25 else "lines",
                        "x": epochs,
                        "y": values,
                        "name": {"train": "training", "valid": "validation"}[part],
                        "legendgroup": part,
                        "showlegend": quantity == "loss",
                        "line": {"color": colour, "width": 2},
                        "xaxis": f"x{axis}",
                        "yaxis": f"y{axis}",
                    }
                )
    grid = {"gridcolor": "#e8e4dc", "zeroline": False}
    whole = {"dtick": 1} if len(epochs) <= 10 else {"tickformat": "d"}
    layout = {
        "height": 340,
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": 1.12},
        "xaxis": {"title": {"text": "epoch"}, "domain": [0, 0.46], **grid, **whole},
        "yaxis": {"title": {"text": "loss"}, **grid},
        "xaxis2": {
            "title": {"text": "epoch"},
            "domain": [0.56, 1],
            "anchor": "y2",
            **grid,
            **whole,
        },
        "yaxis2": {"title": {"text": metric}, "anchor": "x2", **grid},
    }
    return {"data": traces, "layout": layout}
