"""What a treatment tried, as text."""

from __future__ import annotations

from danlu.diagnosis.catalogue import figure, of_treatment
from danlu.recipe.overrides import show
from danlu.study.treating.treatment import Treatment


def head(number: int, language: str = "en") -> list[str]:
    """Return the names of the columns of a round (from 0)."""
    first = of_treatment("round", {"round": number + 1}, language)
    others = [of_treatment(name, {}, language) for name in ("cause", "gain", "interval", "seeds")]
    return [first, *others, ""]


def rows(t: Treatment, number: int, language: str = "en") -> list[list[str]]:
    """Return a row for everything that a round tried, the largest gain first."""
    shown = []
    for tried in sorted(t.tried(number), key=lambda tried: -tried.gain.mean):
        shown.append(
            [
                tried.candidate.name,
                tried.candidate.cause,
                figure(t.format.signed_gap(tried.gain.mean), language),
                figure(t.format.range(tried.gain), language),
                str(tried.seeds),
                of_treatment(tried.verdict, {}, language),
            ]
        )
    return shown


def changed_fields(t: Treatment) -> list[list[str]]:
    """Return a row for each field in which the best recipe differs from the patient's."""
    changed = []
    for path, before, after in t.patient_recipe.diff(t.best):
        values = ["–" if value is None else show(value) for value in (before, after)]
        changed.append([path, *values])
    return changed
