"""The networks of an ensemble, as text."""

from __future__ import annotations

from danlu.metrics import title_of
from danlu.study import Ensemble
from danlu.study.figure_format import FigureFormat


def head(found: Ensemble) -> list[str]:
    """Return the names of the columns of `rows`."""
    return ["network", f"{found.part} {title_of(found.study.metric)}"]


def rows(found: Ensemble) -> list[list[str]]:
    """Return a row for each network, their mean, and the ensemble; none where nothing is known."""
    if found.part is None:
        return []
    name = found.study.metric
    shown = FigureFormat(f"{found.part}_{name}")
    listed = [[str(i), shown.show(x)] for i, x in zip(found.members, found.alone, strict=True)]
    return [
        *listed,
        ["their mean", shown.show(found.mean[name])],
        ["together", shown.show(found.together[name])],
    ]
