"""A figure, a difference of figures and an interval, as they are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

from danlu.statistics import Estimate


@dataclass(frozen=True)
class FigureFormat:
    """How figures of a metric are shown: accuracies and F1 in per cent, their gaps in points."""

    metric: str

    @property
    def percent(self) -> bool:
        """Whether figures are shown in per cent."""
        return self.metric.endswith(("accuracy", "_f1"))

    def show(self, x: float) -> str:
        """Return a figure in the unit of the metric."""
        if not math.isfinite(x):
            return "–"
        if self.percent:
            return f"{100 * x:.2f} %"
        return f"{x:.4g}"

    def gap(self, x: float) -> str:
        """Return a difference: accuracies differ in points."""
        if self.percent and math.isfinite(x):
            return f"{100 * x:.2f} points"
        return self.show(x)

    def signed_gap(self, x: float) -> str:
        """Return a difference with its sign."""
        text = self.gap(x)
        return text if text.startswith(("-", "–")) else f"+{text}"

    def range(self, interval: Estimate, negated: bool = False) -> str:
        """Return an interval in the unit of the metric."""
        low, high = interval.low, interval.high
        if negated:
            low, high = -high, -low
        if not math.isfinite(low):
            return "–"
        # The column's other figures have the unit already.
        ends = [self.show(end).removesuffix(" %") for end in (low, high)]
        return " to ".join(ends)
