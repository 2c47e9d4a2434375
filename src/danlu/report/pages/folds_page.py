"""A cross-validation as a page."""

from __future__ import annotations

from pathlib import Path

from danlu.files import write
from danlu.report.pages import html
from danlu.report.tables.folds import head, rows
from danlu.study import Folds


def write_folds(found: Folds) -> Path:
    """Write report.html into the study's folder."""
    study = found.study
    source = study.data_info["source"]["source"]
    title = f"{len(found.figures)} folds of {source}"
    facts = [study.info["environment"]["machine"], found.path.name]
    sections = [
        f"<h1>{html.text(title)}</h1>",
        html.soft(" · ".join(facts)),
        html.verdict(found.sentences()),
        html.table(head(found), rows(found)),
        html.soft(
            "The interval is Student's t with the correction for folds that share their training "
            "examples (Nadeau and Bengio 2003)."
        ),
        html.heading("Recipe of the first fold"),
        html.listing(study.recipes[0].to_toml()),
    ]
    path = found.path / "report.html"
    write(path, html.page(title, sections, figures=False))
    return path
