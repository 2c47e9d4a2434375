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
    return [_row(c, k) for k in [c.control, *others]]


def _rank(c: Comparison, k: int) -> float:
    gap = c.rows[k].difference.mean
    if math.isnan(gap):
        return math.inf
    return -gap if c.higher_is_better else gap


def _row(c: Comparison, k: int) -> list[str]:
    row = c.rows[k]
    name = f"{row.name} ({row.diverged} diverged)" if row.diverged else row.name
    cells = [name, c.show(row.mean.mean), c.show_range(row.mean)]
    if k == c.control:
        return [*cells, "", "", "", "control"]
    gap = _signed(c.show_gap(row.difference.mean))
    p = "–" if row.verdict.endswith("diverged") else _show_p(row.corrected)
    return [*cells, gap, c.show_range(row.difference), p, row.verdict]


def _signed(text: str) -> str:
    return text if text.startswith(("-", "–")) else f"+{text}"


def _show_p(p: float) -> str:
    if p < 1e-4:
        return "<0.0001"
    return f"{p:.4f}" if p < 0.1 else f"{p:.2f}"
