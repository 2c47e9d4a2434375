"""Comparisons as figures (plain Plotly dictionaries, for the report, a notebook and the page alike)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from danlu.statistics import estimate

if TYPE_CHECKING:
    from danlu.study.compare import Comparison

PALETTE = ("#a34a28", "#3b6fb0", "#4f8a3c", "#8c6bb1", "#c29b2c", "#2f8f8b", "#b5527f", "#6b6459")
DASHES = ("solid", "dash", "dot", "dashdot")  # where colours do not suffice
_GRID = {"gridcolor": "#e8e4dc", "zeroline": False}
_PAPER = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}


def colour(k: int) -> str:
    """The colour of variant k."""
    return PALETTE[k % len(PALETTE)]


def bands(comparison: Comparison) -> dict[str, Any]:
    """Training loss and the metric by epoch: the mean over seeds with its 95 % interval."""
    table = comparison.study.curves()
    v = len(comparison.names)
    table["variant"] = table["member"] % v  # members are laid seed by seed, every variant
    right = comparison.metric if comparison.metric in table else f"valid_{comparison.study.metric}"
    right = right if right in table else f"train_{comparison.study.metric}"
    traces = []
    for axis, figure in (("", "train_loss"), ("2", right)):
        for k, name in enumerate(comparison.names):
            by_epoch = table[table["variant"] == k].groupby("epoch")[figure].apply(list)
            found = [estimate([x for x in values if math.isfinite(x)]) for values in by_epoch]
            epochs = [int(e) for e in by_epoch.index]
            low, high = ([b if math.isfinite(b) else e.mean for e, b in zip(found, side, strict=True)]
                         for side in ([e.low for e in found], [e.high for e in found]))  # fmt: skip
            if not axis:  # logarithmic: a band that reaches below 0 ends at the lowest value seen
                low = [max(b, min(v)) for b, v in zip(low, by_epoch, strict=True)]
            shared = {
                "xaxis": f"x{axis}",
                "yaxis": f"y{axis}",
                "legendgroup": str(k),
                "type": "scatter",
                "mode": "lines",
            }
            band = {
                "x": epochs + epochs[::-1],
                "y": high + low[::-1],
                "fill": "toself",
                "fillcolor": colour(k),
                "opacity": 0.18,
            }
            traces.append(
                {**shared, **band, "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
            )
            style = {
                "color": colour(k),
                "width": 2,
                "dash": DASHES[k // len(PALETTE) % len(DASHES)],
            }
            line = {"x": epochs, "y": [e.mean for e in found], "name": name, "line": style}
            traces.append({**shared, **line, "showlegend": not axis})
    layout = {
        "height": 380,
        "margin": {"l": 60, "r": 16, "t": 16, "b": 48},
        "legend": {"orientation": "h", "y": 1.16},
        "xaxis": {"title": {"text": "epoch"}, "domain": [0, 0.46], **_GRID},
        "yaxis": {"title": {"text": "training loss"}, "type": "log", **_GRID},
        "xaxis2": {"title": {"text": "epoch"}, "domain": [0.56, 1], "anchor": "y2", **_GRID},
        "yaxis2": {"title": {"text": right.replace("_", " ")}, "anchor": "x2", **_GRID},
        **_PAPER,
    }
    return {"data": traces, "layout": layout}


def differences(comparison: Comparison) -> dict[str, Any]:
    """Paired differences to the control: a dot for every seed, the mean with its interval."""
    traces: list[dict[str, Any]] = []
    others = [k for k in range(len(comparison.names)) if k != comparison.control]
    unit = 100 if comparison.percent else 1
    for k in reversed(others):
        row, name = comparison.rows[k], comparison.names[k]
        pairs = [
            unit * (x - y)
            for x, y in zip(
                comparison.figures[k], comparison.figures[comparison.control], strict=True
            )
        ]
        dots = {
            "x": pairs,
            "y": [name] * len(pairs),
            "marker": {"color": colour(k), "size": 7, "opacity": 0.35},
        }
        gap, low, high = (
            unit * x for x in (row.difference.mean, row.difference.low, row.difference.high)
        )
        mean = {
            "x": [gap],
            "y": [name],
            "marker": {"color": colour(k), "size": 11, "symbol": "diamond"},
        }
        if math.isfinite(low):
            sides = {"array": [high - gap], "arrayminus": [gap - low]}
            mean["error_x"] = {
                "type": "data",
                "symmetric": False,
                **sides,
                "thickness": 2,
                "width": 8,
            }
        traces += [{"type": "scatter", "mode": "markers", **what} for what in (dots, mean)]
    unit_name = "points" if comparison.percent else comparison.metric.replace("_", " ")
    what = f"difference to {comparison.names[comparison.control]} in {comparison.metric.replace('_', ' ')}"
    layout = {
        "height": 110 + 44 * len(others),
        "showlegend": False,
        "margin": {"l": 16 + 7 * max(map(len, comparison.names)), "r": 16, "t": 8, "b": 52},
        "xaxis": {
            "title": {"text": f"{what} ({unit_name})" if comparison.percent else what},
            **_GRID,
            "zeroline": True,
        },
        "yaxis": {"type": "category", **_GRID},
        **_PAPER,
    }
    return {"data": traces, "layout": layout}
