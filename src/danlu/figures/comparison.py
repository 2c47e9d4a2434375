"""Figures of a comparison, from plain numbers. Legend: V variants, n seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from danlu.figures.style import AXIS, TRANSPARENT, colour, dash, two_panels
from danlu.metrics import title_of
from danlu.statistics import Estimate, estimate


def bands(
    names: Sequence[str],
    curves: Any,
    variant_of: Any,
    metric: str,
    titles: tuple[str, str, str] | None = None,
) -> dict[str, Any]:
    """Return training loss and a metric by epoch: the mean over seeds with its 95 % interval.

    curves: the table of a study. variant_of: the number of the variant of each of its rows. titles:
    of loss, metric and epochs, where they are not to be English.
    """
    loss, figure, epoch = titles or ("training loss", title_of(metric), "epoch")
    traces = []
    for axis, column in (("", "train_loss"), ("2", metric)):
        for k, name in enumerate(names):
            of_variant = curves[variant_of == k]
            by_epoch = of_variant.groupby("epoch")[column].apply(list)
            traces += _band(k, name, by_epoch, axis)
    layout = two_panels(loss, figure, height=380, over=epoch)
    # Losses fall by orders of magnitude.
    layout["yaxis"]["type"] = "log"
    layout["margin"] = {"l": 60, "r": 16, "t": 16, "b": 48}
    layout["legend"] = {"orientation": "h", "y": 1.16}
    return {"data": traces, "layout": layout}


def _band(k: int, name: str, values: Any, axis: str) -> list[dict[str, Any]]:
    """Return the band and the line of a variant; values: those of all seeds by epoch."""
    means, low, high = [], [], []
    for of_seeds in values:
        found = estimate([x for x in of_seeds if math.isfinite(x)])
        means.append(found.mean)
        has_interval = math.isfinite(found.low)
        bottom = found.low if has_interval else found.mean
        if not axis:  # logarithmic: a band that reaches below 0 ends at the lowest value seen
            bottom = max(bottom, min(of_seeds))
        low.append(bottom)
        high.append(found.high if has_interval else found.mean)
    epochs = [int(epoch) for epoch in values.index]
    shared = {
        "type": "scatter",
        "mode": "lines",
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
        "legendgroup": str(k),
    }
    band = {
        **shared,
        "x": epochs + epochs[::-1],
        "y": high + low[::-1],
        "fill": "toself",
        "fillcolor": colour(k),
        "opacity": 0.18,
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    line = {
        **shared,
        "x": epochs,
        "y": means,
        "name": name,
        "line": {"color": colour(k), "width": 2, "dash": dash(k)},
        "showlegend": not axis,
    }
    return [band, line]


def differences(
    names: Sequence[str],
    gaps: Sequence[Sequence[float]],
    estimates: Sequence[Estimate],
    title: str,
    percent: bool,
) -> dict[str, Any]:
    """Return paired differences to a control: a dot for every seed, the mean with its interval.

    gaps [V][n]: by seed; estimates [V]: of them. title: with the unit, points where percent.
    """
    unit = 100 if percent else 1
    traces: list[dict[str, Any]] = []
    # Plotly puts the first at the bottom.
    for k in reversed(range(len(names))):
        of_variant = [unit * gap for gap in gaps[k]]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": of_variant,
                "y": [names[k]] * len(of_variant),
                "marker": {"color": colour(k), "size": 7, "opacity": 0.35},
            }
        )
        # After the dots, so that it is drawn above them.
        traces.append(_mean_mark(k, names[k], estimates[k], unit))
    layout = {
        "height": 110 + 44 * len(names),
        "showlegend": False,
        "margin": {"l": 16 + 7 * max(map(len, names)), "r": 16, "t": 8, "b": 52},
        "xaxis": {
            **AXIS,
            "title": {"text": title},
            "zeroline": True,
        },
        "yaxis": {"type": "category", **AXIS},
        **TRANSPARENT,
    }
    return {"data": traces, "layout": layout}


def _mean_mark(k: int, name: str, difference: Estimate, unit: int) -> dict[str, Any]:
    mean = unit * difference.mean
    mark: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": [mean],
        "y": [name],
        "marker": {"color": colour(k), "size": 11, "symbol": "diamond"},
    }
    if math.isfinite(difference.low):
        mark["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": [unit * difference.high - mean],
            "arrayminus": [mean - unit * difference.low],
            "thickness": 2,
            "width": 8,
        }
    return mark


def learning(
    sizes: Sequence[int],
    errors: Sequence[Sequence[float]],
    law_sizes: Sequence[float],
    law: Sequence[float],
    title: str,
) -> dict[str, Any]:
    """Return errors by the number of examples, a dot for every seed, and a law through them.

    errors [V][n]; law: at law_sizes, beyond the sizes dotted.
    """
    most = max(sizes)
    seen = [(x, y) for x, y in zip(law_sizes, law, strict=True) if x <= most]
    beyond = [seen[-1], *((x, y) for x, y in zip(law_sizes, law, strict=True) if x > most)]
    dots = [(n, error) for n, row in zip(sizes, errors, strict=True) for error in row]
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "by seed",
            "x": [n for n, _ in dots],
            "y": [error for _, error in dots],
            "marker": {"color": colour(0), "size": 7, "opacity": 0.35},
        }
    ]
    for name, points, style in (("power law", seen, "solid"), ("beyond", beyond, "dot")):
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": [x for x, _ in points],
                "y": [y for _, y in points],
                "line": {"color": colour(1), "dash": style, "width": 2},
            }
        )
    layout = {
        "height": 340,
        "margin": {"l": 64, "r": 16, "t": 16, "b": 52},
        "legend": {"orientation": "h", "y": 1.14},
        "xaxis": {"type": "log", "title": {"text": "training examples"}, **AXIS},
        "yaxis": {"title": {"text": title}, "rangemode": "tozero", **AXIS},
        **TRANSPARENT,
    }
    return {"data": traces, "layout": layout}
