"""Suspected labels as a page, each with what the example is."""

from __future__ import annotations

from pathlib import Path

import torch

from danlu.data.parts import TITLES
from danlu.files import write
from danlu.report.pages import html
from danlu.report.pages.examples import captioned
from danlu.study.label_suspects import Suspect, Suspects

_SHOWN = 60


def write_suspects(found: Suspects) -> Path:
    """Write suspects.html into the cross-validation's folder."""
    title = f"Suspected labels of {found.folds.study.data_info['source']['source']}"
    sections = [f"<h1>{html.text(title)}</h1>", html.verdict(found.sentences())]
    shown = found.found[:_SHOWN] if found.is_trusted else []
    if shown:
        examples = found.data.x[torch.tensor([suspect.example for suspect in shown])]
        captions = [_caption(suspect) for suspect in shown]
        sections.append(html.heading("The likeliest to be wrong"))
        sections.append(captioned(found.data.schema, examples, captions))
        if len(found.found) > _SHOWN:
            sections.append(html.soft(f"All {len(found.found):,} are in suspects.csv."))
    path = found.path / "suspects.html"
    write(path, html.page(title, sections, figures=False))
    return path


def _caption(suspect: Suspect) -> str:
    return (
        f"{suspect.origin} ({TITLES[suspect.part]}): {suspect.label} "
        f"({suspect.label_probability:.0%}), rather {suspect.suggested} "
        f"({suspect.suggested_probability:.0%})"
    )
