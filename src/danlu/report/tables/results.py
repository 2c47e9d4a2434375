"""The final figures of a run, as text."""

from __future__ import annotations

from danlu.data.parts import TITLES
from danlu.runs import Run


def result_head(run: Run) -> list[str]:
    """Return the names of the columns of `result_rows`."""
    counted = "tokens" if run.schema.each_token else "examples"
    metric = "R²" if run.metric == "r2" else run.metric
    head = ["part", counted, "loss", metric]
    if run.schema.scheme:
        head.append("F1")
    return head


def result_rows(run: Run) -> list[list[str]]:
    """Return (part, examples, loss, accuracy or R², F1 of entities) of a finished run.

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
        for figure in ("loss", run.metric, "f1"):
            value = result.get(f"{part}_{figure}")
            if value is not None:
                row.append(f"{value:.4f}")
        rows.append(row)
    return rows
