"""A search as a page."""

from __future__ import annotations

import json
from pathlib import Path

from danlu.errors import count
from danlu.figures.style import MARK_SCALE, TRANSPARENT
from danlu.files import write
from danlu.metrics import title_of
from danlu.report.pages import html
from danlu.report.tables.searches import head, importance_words, rows
from danlu.study.tuning import Tuning

_TRIALS_SHOWN = 20
_LAYOUT = {
    "title": None,
    "height": 380,
    "margin": {"l": 70, "r": 30, "t": 50, "b": 50},
    "template": "none",
    **TRANSPARENT,
}


def write_tuning(t: Tuning) -> Path:
    """Write report.html into the study's folder."""
    info = t.study.info
    title = f"Search on {t.study.data_info['source']['source']}"
    facts = [
        info["strategy"],
        count(len(t.ranked) + t.diverged, "trial"),
        count(info["rounds"], "round"),
        info["environment"]["machine"],
        t.study.path.name,
    ]
    sections = [
        f"<h1>{html.text(title)}</h1>",
        html.soft(" · ".join(facts)),
        html.verdict(t.sentences()),
        html.table(head(t), rows(t, _TRIALS_SHOWN)),
    ]
    if t.importance:
        words = f"What mattered (share of the variance of the results): {importance_words(t)}"
        sections += [f"<p>{html.text(words)}</p>", *_figures(t)]
    if t.best is not None:
        sections += [html.heading("The winner's recipe"), html.listing(t.best.to_toml())]
    path = t.study.path / "report.html"
    write(path, html.page(title, sections))
    return path


def _figures(t: Tuning) -> list[str]:
    """Return Optuna's parallel coordinates and slices, in our colours."""
    from optuna.visualization import plot_parallel_coordinate, plot_slice

    name = title_of(t.metric)
    parallel = plot_parallel_coordinate(t.in_memory, target_name=name)
    slices = plot_slice(t.in_memory, target_name=name)
    marker = {"colorscale": MARK_SCALE}
    slices.update_traces(marker=marker, selector={"type": "scatter"})
    sections = []
    named = (("parallel", "Every trial", parallel), ("slices", "Field by field", slices))
    for key, title, figure in named:
        figure.update_layout(**_LAYOUT)
        # Plotly's own objects hold NumPy arrays, which a page cannot.
        plain = json.loads(figure.to_json())
        sections += [html.heading(title), html.figure(key, plain, title)]
    return sections
