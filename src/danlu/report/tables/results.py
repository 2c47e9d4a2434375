"""The final figures of a run, as text."""

from __future__ import annotations

from danlu.data.parts import TITLES
from danlu.runs import Run


def result_head(run: Run) -> list[str]:
    """Return the names of the columns of `result_rows`."""
    counted = "tokens" if run.schema.each_token else "examples"
    head = ["part", counted, "loss", "R²" if run.metric == "r2" else run.metric]
    return [*head, "F1"] if run.schema.scheme else head


def result_rows(run: Run) -> list[list[str]]:
    """Return (part, examples, loss, accuracy or R², F1 of entities) of a finished run.

    Large training parts are scored on a sample, whose size is shown.
    """
    sizes, result = run.data_info["sizes"], run.result
    rows = []
    for part, title in TITLES.items():
        if f"{part}_loss" not in result:
            continue
        n = result[f"{part}_n"]
        counted = f"{n:,} of {sizes[part]:,}" if n < sizes[part] else f"{n:,}"
        names = (f"{part}_loss", f"{part}_{run.metric}", f"{part}_f1")
        figures = [f"{result[name]:.4f}" for name in names if name in result]
        rows.append([title, counted, *figures])
    return rows
