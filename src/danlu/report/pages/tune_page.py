"""A search in the terminal and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from danlu.errors import count
from danlu.report.pages import html
from danlu.runs.folder import write
from danlu.study.grid import short, show
from danlu.study.tuning import Tuning


def table_rows(t: Tuning, most: int) -> list[list[str]]:
    """Rank, figure, epochs trained, values of the best."""
    rows = []
    for rank, trial in enumerate(t.ranked[:most], 1):
        epochs = f"{trial.epochs}{' (stopped)' if trial.stopped else ''}"
        values = (f"{v:.3g}" if isinstance(v, float) else show(v) for v in trial.values.values())
        rows.append([f"Best-{rank}", f"{trial.figure:.4f}", epochs, *values])
    return rows


def head(t: Tuning) -> list[str]:
    """Names of the table's columns."""
    return ["", t.metric.replace("_", " "), "epochs", *(short(p) for p in t.space)]


def importance_words(t: Tuning) -> str:
    """Shares of the fields in the variance of the results."""
    return ", ".join(f"{short(k)} {100 * v:.0f} %" for k, v in t.importance.items())


def print_tuning(t: Tuning) -> None:
    """The best five, what mattered, the verdict."""
    from danlu.report.terminal.console import say, table

    table(head(t), table_rows(t, 5))
    say("")
    if t.importance:
        say(f"What mattered (share of the variance): {importance_words(t)}")
    for sentence in t.sentences():
        say(sentence)


def write_tuning(t: Tuning) -> Path:
    """Write report.html into the study's folder."""
    info = t.study.info
    told: Any = t.study.data_info["source"]["source"]
    facts = [
        info["strategy"],
        count(len(t.ranked) + t.diverged, "trial"),
        count(info["rounds"], "round"),
        info["environment"]["machine"],
    ]
    sections = [
        f"<h1>Search on {html.text(told)}</h1>",
        f'<p class="soft">{html.text(" · ".join([*facts, t.study.path.name]))}</p>',
        html.verdict(t.sentences()),
        html.table(head(t), table_rows(t, 20)),
    ]
    if t.importance:
        sections.append(
            f"<p>What mattered (share of the variance of the results): {html.text(importance_words(t))}</p>"
        )
        sections += _figures(t)
    if t.best is not None:
        sections += ["<h2>The winner's recipe</h2>", f"<pre>{html.text(t.best.to_toml())}</pre>"]
    path = t.study.path / "report.html"
    write(path, html.page(f"Search on {told}", sections))
    return path


def _figures(t: Tuning) -> list[str]:
    """Optuna's parallel coordinates and slices, in our colours."""
    import optuna

    name = t.metric.replace("_", " ")
    made = (
        (
            "parallel",
            "Every trial",
            optuna.visualization.plot_parallel_coordinate(t.flat, target_name=name),
        ),
        ("slices", "Field by field", optuna.visualization.plot_slice(t.flat, target_name=name)),
    )
    sections = []
    for key, title, figure in made:
        figure.update_layout(title=None, height=380, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
                             margin={"l": 70, "r": 30, "t": 50, "b": 50}, template="none")  # fmt: skip
        colours = [[0, "#f4e3d3"], [0.5, "#d98e5f"], [1, "#7a3014"]]
        if key == "slices":
            figure.update_traces(marker={"colorscale": colours}, selector={"type": "scatter"})
        sections += [f"<h2>{title}</h2>", html.figure(key, json.loads(figure.to_json()), title)]
    return sections
