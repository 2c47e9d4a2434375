"""Bias and variance as a page."""

from __future__ import annotations

from pathlib import Path

from danlu.errors import count
from danlu.files import write
from danlu.report.pages import html
from danlu.report.tables import decompositions
from danlu.study import BiasVariance


def write_decomposition(found: BiasVariance) -> Path:
    """Write report.html into the study's folder."""
    study = found.study
    title = f"Bias and variance on {study.data_info['source']['source']}"
    facts = [
        count(len(study), "training"),
        study.info["environment"]["machine"],
        study.path.name,
    ]
    tables = []
    for kind in found.kinds:
        columns = decompositions.head(found, kind)
        tables.append(html.table(columns, decompositions.rows(found, kind)))
    sections = [
        f"<h1>{html.text(title)}</h1>",
        html.soft(" · ".join(facts)),
        html.verdict(found.sentences()),
        html.figure("parts", found.figure(), "Bias², variance and noise of each variant"),
        *tables,
        html.soft(found.method()),
        html.heading("Recipe of the first variant"),
        html.listing(study.recipes[0].to_toml()),
    ]
    path = study.path / "report.html"
    write(path, html.page(title, sections))
    return path
