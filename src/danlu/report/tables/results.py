"""The final figures of a run, as text."""

from __future__ import annotations

from danlu.data.parts import TITLES
from danlu.metrics import title_of
from danlu.runs import Run


def result_head(run: Run) -> list[str]:
    """Return the names of the columns of `result_rows`."""
    counted = "tokens" if run.schema.each_token else "examples"
    return ["part", counted, *(title_of(name) for name in _shown_figures(run))]


def _shown_figures(run: Run) -> list[str]:
    """Return loss and accuracy (or R²), and the figure that counts."""
    figures = ["loss", run.metric]
    if run.schema.scheme:
        figures.append("f1")
    return list(dict.fromkeys([*figures, run.chosen_metric]))


def result_rows(run: Run) -> list[list[str]]:
    """Return (part, examples, loss, accuracy or R², the figure that counts) of a finished run.

    Large training parts are scored on a sample, whose size is shown.
    """
    sizes = run.data_info["sizes"]
    result = run.result
    rows = []
    for part, title in TITLES.items():
        # A part without examples was not scored.
        if f"{part}_loss" not in result:
            continue
        scored = result[f"{part}_n"]
        counted = f"{scored:,}"
        if scored < sizes[part]:
            counted += f" of {sizes[part]:,}"
        row = [title, counted]
        for figure in _shown_figures(run):
            value = result.get(f"{part}_{figure}")
            row.append("–" if value is None else f"{value:.4f}")
        rows.append(row)
    return rows
