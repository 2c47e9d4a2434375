"""The folds of a cross-validation, as text."""

from __future__ import annotations

from danlu.metrics import title_of
from danlu.study import Folds


def head(found: Folds) -> list[str]:
    """Return the names of the columns of `rows`."""
    figures = [title_of(name) for name in _shown(found)]
    return ["fold", "examples", *figures, "epochs"]


def rows(found: Folds) -> list[list[str]]:
    """Return a row for each fold: what the network scores on it that has not seen it."""
    shown = []
    for fold, result in enumerate(found.study.results, 1):
        if not result:
            shown.append([str(fold), "–", *("–" for _ in _shown(found)), "diverged"])
            continue
        figures = [f"{result[f'valid_{name}']:.4f}" for name in _shown(found)]
        epochs = result.get("best_epoch", result["epochs"])
        shown.append([str(fold), f"{result['valid_n']:,}", *figures, str(epochs)])
    return shown


def _shown(found: Folds) -> list[str]:
    return list(dict.fromkeys(["loss", found.study.metric, found.name]))
