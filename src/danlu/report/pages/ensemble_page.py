"""An ensemble as a page."""

from __future__ import annotations

from pathlib import Path

from danlu.errors import count
from danlu.files import write
from danlu.report.pages import html
from danlu.report.tables import ensembles
from danlu.study import Ensemble


def write_ensemble(found: Ensemble) -> Path:
    """Write report.html into the study's folder."""
    study = found.study
    title = f"Ensemble on {study.data_info['source']['source']}"
    facts = [
        count(len(found.members), "network"),
        study.info["environment"]["machine"],
        study.path.name,
    ]
    sections = [
        f"<h1>{html.text(title)}</h1>",
        html.soft(" · ".join(facts)),
        html.verdict(found.sentences()),
        html.table(ensembles.head(found), ensembles.rows(found)),
        html.soft(found.method()),
        html.heading("Recipe of the first network"),
        html.listing(study.recipes[found.members[0]].to_toml()),
    ]
    path = study.path / "report.html"
    write(path, html.page(title, sections, figures=False))
    return path
