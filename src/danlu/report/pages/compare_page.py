"""A comparison as a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from danlu.errors import some
from danlu.files import write
from danlu.report.pages import html
from danlu.report.tables.comparisons import head, rows
from danlu.study import Comparison
from danlu.train.dispatch.grouping import group_recipes
from danlu.train.dispatch.plan import Plan


def write_comparison(c: Comparison) -> Path:
    """Write report.html into the study's folder."""
    source = c.study.data_info["source"]["source"]
    title = f"{len(c.names)} variants on {source}"
    machine = c.study.info["environment"]["machine"]
    facts = [f"{len(c.study)} trainings", machine, c.study.path.name]
    differences = html.figure(
        "differences", c.differences_figure(), "Paired differences to the control, by seed"
    )
    sections = [
        f"<h1>{html.text(title)}</h1>",
        html.soft(" · ".join(facts)),
        html.verdict(c.sentences()),
        html.table(head(c), rows(c)),
        html.soft(c.method()),
        html.heading("Differences"),
        differences,
        *_learning_curve(c),
        *_curves(c),
        html.heading("How it was trained"),
        *(f"<p>{html.text(line)}</p>" for line in _plans(c)),
        html.heading("Recipe of the first variant"),
        html.listing(c.study.recipes[0].to_toml()),
    ]
    path = c.study.path / "report.html"
    write(path, html.page(title, sections))
    return path


def _learning_curve(c: Comparison) -> list[str]:
    curve = c.learning_curve
    if curve is None:
        return []
    label = "Error by the number of training examples, with the law through its means"
    return [
        html.heading("Learning curve"),
        html.figure("learning", c.learning_figure(curve), label),
    ]


def _curves(c: Comparison) -> list[str]:
    if not any((c.study.path / "curves").glob("*.parquet")):  # all diverged in their first epoch
        return []
    label = "Training loss and metric by epoch, mean and interval"
    return [html.heading("Curves"), html.figure("curves", c.curves_figure(), label)]


def _plans(c: Comparison) -> Iterator[str]:
    """Yield how each group of variants was trained, and why."""
    groups = group_recipes(c.study.recipes)
    n_variants = len(c.names)
    for kept in c.study.info["plans"]:
        plan = Plan.from_json(kept)
        members = groups[kept["group"]]
        # Members come seed by seed, each with all variants.
        variants = sorted({member % n_variants for member in members})
        names = "all variants"
        if len(variants) < n_variants:
            names = some([c.names[k] for k in variants])
        yield f"{names}: {plan.description}, {plan.reason}."
