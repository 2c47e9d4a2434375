"""Bias, variance and noise of each variant, as text."""

from __future__ import annotations

import math

from danlu.statistics import Estimate
from danlu.study import BiasVariance
from danlu.study.decomposing.decomposition import TITLES


def head(found: BiasVariance, kind: str) -> list[str]:
    """Return the names of the columns of `rows`."""
    parts = ["bias²", "variance", "noise"] if kind == "squared" else ["bias", "variance", "net"]
    return [TITLES[kind], "expected", *parts]


def rows(found: BiasVariance, kind: str) -> list[list[str]]:
    """Return a row for each variant."""
    shown = []
    for name, parts in zip(found.names, found.of(kind), strict=True):
        cells = [_shown(part) for part in (parts.loss, parts.bias, parts.variance)]
        if kind == "squared":
            cells.append("–" if parts.noise is None else f"{parts.noise:.4g}")
        else:
            cells.append(_shown(parts.net))
        shown.append([name, *cells])
    return shown


def _shown(found: Estimate) -> str:
    if not math.isfinite(found.low):
        return f"{found.mean:.4g}"
    return f"{found.mean:.4g} ({found.low:.3g} to {found.high:.3g})"
