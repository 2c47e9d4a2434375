"""The table of a search, as text."""

from __future__ import annotations

from typing import Any

from danlu.metrics import title_of
from danlu.recipe.overrides import show
from danlu.study.grid import short
from danlu.study.tuning import Tuning


def head(t: Tuning) -> list[str]:
    """Return the names of the columns."""
    figure = title_of(t.metric)
    fields = map(short, t.space)
    return ["", figure, "epochs", *fields]


def rows(t: Tuning, most: int) -> list[list[str]]:
    """Return rank, figure, epochs trained and values of the best."""
    table = []
    for rank, trial in enumerate(t.ranked[:most], 1):
        epochs = str(trial.epochs)
        if trial.stopped:
            epochs += " (stopped)"
        row = [f"Best-{rank}", f"{trial.figure:.4f}", epochs]
        # A variant may not use every field that was searched.
        row += [_shown(trial.values[path]) if path in trial.values else "–" for path in t.space]
        table.append(row)
    return table


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return show(value)


def importance_words(t: Tuning) -> str:
    """Return the shares of the fields in the variance of the results."""
    words = []
    for path, share in t.importance.items():
        percent = 100 * share
        words.append(f"{short(path)} {percent:.0f} %")
    return ", ".join(words)
