"""The table of a comparison, as text."""

from __future__ import annotations

import math

from danlu.study import Comparison


def head(c: Comparison) -> list[str]:
    """Return the names of the columns."""
    interval = f"{c.level} interval"
    return ["variant", "mean", "95 % interval", "to control", interval, "p (Holm)", ""]


def rows(c: Comparison) -> list[list[str]]:
    """Return the table, the control first, then by mean difference, best first."""
    others = [k for k in range(len(c.rows)) if k != c.control]
    others.sort(key=lambda k: _rank(c, k))
    order = [c.control, *others]
    return [_row(c, k) for k in order]


def _rank(c: Comparison, k: int) -> float:
    gap = c.rows[k].difference.mean
    if math.isnan(gap):  # no seed to compare: last
        return math.inf
    if c.higher_is_better:
        return -gap
    return gap


def _row(c: Comparison, k: int) -> list[str]:
    row = c.rows[k]
    name = row.name
    if row.diverged:
        name = f"{row.name} ({row.diverged} diverged)"
    mean = c.format.show(row.mean.mean)
    cells = [name, mean, c.format.range(row.mean)]
    if k == c.control:
        return [*cells, "", "", "", "control"]
    cells.append(c.format.signed_gap(row.difference.mean))
    cells.append(c.format.range(row.difference))
    # A test says nothing of a variant of which some seeds are missing.
    if row.verdict.endswith("diverged"):
        cells.append("–")
    else:
        cells.append(_show_p(row.corrected))
    cells.append(row.verdict)
    return cells


def _show_p(p: float) -> str:
    if p < 1e-4:
        return "<0.0001"
    if p < 0.1:
        return f"{p:.4f}"
    return f"{p:.2f}"
