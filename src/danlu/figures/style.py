"""Colours and the common look of figures and pages, once."""

from __future__ import annotations

from typing import Any

from danlu.errors import printable

PART_COLOURS = {"train": "#8c6bb1", "valid": "#d9772b"}
PALETTE = (
    "#a34a28",
    "#3b6fb0",
    "#4f8a3c",
    "#8c6bb1",
    "#c29b2c",
    "#2f8f8b",
    "#b5527f",
    "#6b6459",
)
SOFT = "#7d7468"
# From paper to the darkest accent, for heat maps; and for marks, which must be seen on paper.
HEAT = [[0, "#fbf9f5"], [0.02, "#f4e3d3"], [0.3, "#d98e5f"], [1, "#7a3014"]]
MARK_SCALE = [[0, "#f4e3d3"], [0.5, "#d98e5f"], [1, "#7a3014"]]
DASHES = ("solid", "dash", "dot", "dashdot")  # where colours do not suffice
GRID_COLOUR = "#e8e4dc"
AXIS: dict[str, Any] = {"gridcolor": GRID_COLOUR, "zeroline": False}
TRANSPARENT = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}


def colour(k: int) -> str:
    """Return the colour of variant k."""
    return PALETTE[k % len(PALETTE)]


def dash(k: int) -> str:
    """Return the line style of variant k: another one for each round through the colours."""
    return DASHES[k // len(PALETTE) % len(DASHES)]


_TEMPLATES = ("hovertemplate", "texttemplate")  # in which Plotly's markup is ours


def plain(figure: Any) -> Any:
    """Return a Plotly dictionary in which names are shown as they are.

    Plotly takes <a>, <b> and the like in any text for markup.
    """
    if isinstance(figure, str):
        return printable(figure).replace("<", "&lt;").replace("&lt;br>", "<br>")
    if isinstance(figure, dict):
        return {k: v if k in _TEMPLATES else plain(v) for k, v in figure.items()}
    if isinstance(figure, (list, tuple)):
        return [plain(value) for value in figure]
    return figure


def two_panels(left: str, right: str, height: int, over: str = "epoch") -> dict[str, Any]:
    """Return the layout of two panels over epochs, with the titles of their y axes and x axis."""
    return {
        "height": height,
        "xaxis": {"title": {"text": over}, "domain": [0, 0.46], **AXIS},
        "yaxis": {"title": {"text": left}, **AXIS},
        "xaxis2": {"title": {"text": over}, "domain": [0.56, 1], "anchor": "y2", **AXIS},
        "yaxis2": {"title": {"text": right}, "anchor": "x2", **AXIS},
        **TRANSPARENT,
    }
