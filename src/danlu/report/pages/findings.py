"""Findings on a page."""

from __future__ import annotations

from danlu.diagnosis import Diagnosis
from danlu.diagnosis.catalogue import of_treatment
from danlu.report.pages import html


def findings_section(diagnosis: Diagnosis, language: str = "en") -> list[str]:
    """Return what is wrong, and what to try; nothing where all is well."""
    if diagnosis.is_healthy:
        return []
    heading = of_treatment("findings", {}, language)
    return [html.heading(heading), findings_table(diagnosis, language)]


def findings_table(diagnosis: Diagnosis, language: str = "en") -> str:
    """Return a row for each finding: its cause, why, what to try."""
    rows = []
    for finding in diagnosis.findings:
        cures = []
        for prescription in finding.prescriptions:
            edits = " ".join(map(str, prescription.edits))
            cures.append(edits or prescription.why(language))
        what = f"{finding.title(language)} ({finding.cause})"
        why = finding.why(language)
        rows.append(
            [what, f"{finding.severity:.0%}", why, of_treatment("or", {}, language).join(cures)]
        )
    head = [of_treatment(name, {}, language) for name in ("cause", "severity", "why", "try")]
    return html.table(head, rows, words=(2, 3))
