"""A treatment as a page: what was wrong, what was tried, what helped."""

from __future__ import annotations

from pathlib import Path

from danlu.diagnosis.catalogue import of_treatment
from danlu.files import write
from danlu.report.pages import html
from danlu.report.pages.findings import findings_table
from danlu.report.tables import treatments
from danlu.study.treating.treatment import Treatment


def write_treatment(t: Treatment, language: str = "en") -> Path:
    """Write report.html into the study's folder."""
    source = t.study.data_info["source"]["source"]
    words = {"model": t.patient_recipe.model.name, "source": source}
    title = of_treatment("title", words, language)
    facts = [
        of_treatment("trainings", {"n": t.trainings}, language),
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
        sections += [
            html.heading(of_treatment("was_wrong", {}, language)),
            findings_table(t.before, language),
        ]
    for number in range(len(t.rounds)):
        sections += _round(t, number, language)
    if t.rounds:
        sections.append(html.soft(t.method(language)))
    if t.helped:
        sections += _outcome(t, language)
    if t.helped and not t.after.is_healthy:
        sections += [
            html.heading(of_treatment("is_left", {}, language)),
            findings_table(t.after, language),
        ]
    sections += [
        html.heading(of_treatment("recipe", {}, language)),
        html.listing(t.patient_recipe.to_toml()),
    ]
    path = t.study.path / "report.html"
    write(path, html.page(title, sections))
    return path


def _round(t: Treatment, number: int, language: str) -> list[str]:
    base = " ".join(candidate.name for candidate in t.rounds[number].base)
    control = of_treatment("control" if base else "control_alone", {"base": base}, language)
    label = of_treatment("gains_by_seed", {"round": number + 1}, language)
    return [
        html.heading(of_treatment("round", {"round": number + 1}, language).capitalize()),
        html.soft(control),
        html.table(
            treatments.head(number, language), treatments.rows(t, number, language), words=(1, 5)
        ),
        html.figure(f"gains-{number + 1}", t.gains_figure(number, language), label),
    ]


def _outcome(t: Treatment, language: str) -> list[str]:
    changed = [*treatments.changed_fields(t), *([edit, "", ""] for edit in t.data_edits)]
    head = [of_treatment(name, {}, language) for name in ("field", "the_patient", "best")]
    sections = [
        html.heading(of_treatment("changed", {}, language)),
        html.table(head, changed, words=(1, 2)),
        html.heading(of_treatment("best", {}, language)),
        html.listing(t.best.to_toml()),
    ]
    if not t.chosen:  # the data alone
        return sections
    label = of_treatment("curves", {}, language)
    figure = html.figure("curves", t.curves_figure(language), label)
    return [html.heading(of_treatment("before_and_after", {}, language)), figure, *sections]
