"""A treatment as a page: what was wrong, what was tried, what helped."""

from __future__ import annotations

from pathlib import Path

from danlu.errors import count
from danlu.files import write
from danlu.report.pages import html
from danlu.report.pages.findings import findings_table
from danlu.report.tables import treatments
from danlu.study.treating.treatment import Treatment


def write_treatment(t: Treatment, language: str = "en") -> Path:
    """Write report.html into the study's folder."""
    source = t.study.data_info["source"]["source"]
    title = f"Treatment of {t.patient_recipe.model.name} on {source}"
    facts = [
        count(t.trainings, "training"),
        f"{t.seconds:.1f} s",
        t.study.info["environment"]["machine"],
        t.study.path.name,
    ]
    sections = [
        f"<h1>{html.text(title)}</h1>",
        html.soft(" · ".join(facts)),
        html.verdict(t.sentences(language)),
    ]
    if not t.before.is_healthy:
        sections += [html.heading("What was wrong"), findings_table(t.before, language)]
    for number in range(len(t.rounds)):
        sections += _round(t, number)
    if t.rounds:
        sections.append(html.soft(t.method()))
    if t.helped:
        sections += _outcome(t)
    if t.helped and not t.after.is_healthy:
        sections += [html.heading("What is left"), findings_table(t.after, language)]
    sections += [html.heading("The patient's recipe"), html.listing(t.patient_recipe.to_toml())]
    path = t.study.path / "report.html"
    write(path, html.page(title, sections))
    return path


def _round(t: Treatment, number: int) -> list[str]:
    base = " ".join(candidate.name for candidate in t.rounds[number].base)
    control = f"The control is the patient with {base}." if base else "The control is the patient."
    label = f"Gains by seed in round {number + 1}"
    return [
        html.heading(f"Round {number + 1}"),
        html.soft(control),
        html.table(treatments.head(number), treatments.rows(t, number), words=(1, 5)),
        html.figure(f"gains-{number + 1}", t.gains_figure(number), label),
    ]


def _outcome(t: Treatment) -> list[str]:
    changed = [*treatments.changed_fields(t), *([edit, "", ""] for edit in t.data_edits)]
    sections = [
        html.heading("What changed"),
        html.table(["field", "patient", "best"], changed, words=(1, 2)),
        html.heading("The best recipe"),
        html.listing(t.best.to_toml()),
    ]
    if not t.chosen:  # the data alone
        return sections
    label = "Training loss and metric by epoch, the patient and the best recipe"
    figure = html.figure("curves", t.curves_figure(), label)
    return [html.heading("Before and after"), figure, *sections]
