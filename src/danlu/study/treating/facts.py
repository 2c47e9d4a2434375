"""What study.json must hold of a treatment."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from danlu.diagnosis import Finding
from danlu.errors import RunError
from danlu.runs import Study
from danlu.runs.facts import Facts
from danlu.study.facts import Positive, checked


class _Candidate(Facts):
    edits: Annotated[list[str], Field(min_length=1)]
    cause: str
    reason: str


class _Confirmation(Facts):
    candidate: _Candidate
    seeds: Annotated[list[int], Field(min_length=2)]
    level: Annotated[float, Field(gt=0, lt=1)]


class _Round(Facts):
    base: list[_Candidate]
    causes: list[str]
    candidates: Annotated[list[_Candidate], Field(min_length=1)]
    screening: Annotated[list[int], Field(min_length=2)]
    confirming: Annotated[list[int], Field(min_length=2)]
    further: list[int]
    unfit: list[tuple[str, str]]
    left_out: Annotated[int, Field(ge=0)]
    pairs: list[_Candidate] | None
    tests: list[_Confirmation]
    is_cut: bool


class _DataTrial(_Candidate):
    why_not: str
    seeds: list[int]
    figures: list[float | None]
    won: bool


class _Treatment(Facts):
    patient: str
    patient_recipe: dict[str, Any]
    metric: str
    constant: float
    seeds: Annotated[int, Field(ge=2)]
    most_rounds: Positive
    budget: float
    seconds: float
    findings: Annotated[list[dict[str, Any]], Field(min_length=1)]
    rounds_tried: list[_Round]
    unfit: list[tuple[str, str]]
    of_data: list[_Candidate]
    end: Literal["", "healthy", "nothing", "no gain", "budget", "rounds"] = ""
    chosen: Annotated[list[_Candidate], Field(default_factory=list)]
    findings_after: Annotated[list[dict[str, Any]], Field(default_factory=list)]
    data_trials: Annotated[list[_DataTrial], Field(default_factory=list)]
    test: dict[str, list[float | None]] | None = None


def treatment_facts(study: Study) -> dict[str, Any]:
    """Return the facts of a treatment. Raises RunError for what is not one."""
    rounds = study.info.get("rounds_tried")
    if isinstance(rounds, list) and any(isinstance(r, dict) and "tested" in r for r in rounds):
        raise RunError(
            f"{str(study.path)!r} was made by an earlier danlu, which kept its tests otherwise; "
            "treat the run again"
        )
    info = checked(study, _Treatment)
    for plain in (*info["findings"], *info.get("findings_after", ())):
        try:
            Finding.from_facts(plain)
        except ValueError as e:
            raise RunError(f"{study.path / study.index} is foreign: {e}") from e
    return info
