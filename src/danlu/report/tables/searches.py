"""The table of a search, as text."""

from __future__ import annotations

from typing import Any

from danlu.study.grid import short, show
from danlu.study.tuning import Tuning


def head(t: Tuning) -> list[str]:
    """Return the names of the columns."""
    return ["", t.metric.replace("_", " "), "epochs", *(short(path) for path in t.space)]


def rows(t: Tuning, most: int) -> list[list[str]]:
    """Return rank, figure, epochs trained and values of the best."""
    found = []
    for rank, trial in enumerate(t.ranked[:most], 1):
        epochs = f"{trial.epochs} (stopped)" if trial.stopped else str(trial.epochs)
        values = [_shown(value) for value in trial.values.values()]
        found.append([f"Best-{rank}", f"{trial.figure:.4f}", epochs, *values])
    return found


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else show(value)


def importance_words(t: Tuning) -> str:
    """Return the shares of the fields in the variance of the results."""
    return ", ".join(f"{short(path)} {100 * v:.0f} %" for path, v in t.importance.items())
