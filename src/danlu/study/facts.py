"""What study.json must hold of a comparison, a search and a cross-validation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from danlu.errors import RunError
from danlu.runs import Study
from danlu.runs.facts import Facts, check_facts
from danlu.statistics import INTERVALS

Positive = Annotated[int, Field(ge=1)]


def _known_interval(name: str) -> str:
    if name not in INTERVALS:
        raise ValueError(f"is {name!r}")
    return name


class _Comparison(Facts):
    variants: Annotated[list[list[tuple[str, Any]]], Field(min_length=2)]
    control: Annotated[int, Field(ge=0)]
    metric: str
    interval: Annotated[str, AfterValidator(_known_interval)]
    until: Positive | None
    names: dict[str, str] | None = None


class _Range(Facts):
    low: float
    high: float


class _Choice(Facts):
    values: Annotated[list[Any], Field(min_length=1)]


class _Search(Facts):
    id: str
    space: dict[str, _Range | _Choice]
    base: dict[str, Any]
    storage: str | None
    trials: Positive
    rounds: Positive
    strategy: str
    metric: str
    seed: Annotated[int, Field(ge=0)]
    name: str


class _Folds(Facts):
    metric: str
    folds: Annotated[int, Field(ge=2)]
    together: dict[str, dict[str, float | None]] | None = None


class _Gain(Facts):
    gain: float | None
    low: float | None
    high: float | None


class _Ensemble(Facts):
    members: Annotated[list[int], Field(min_length=2)]
    part: Literal["test", "valid"] | None
    alone: Annotated[list[float | None], Field(default_factory=list)]
    mean: Annotated[dict[str, float | None], Field(default_factory=dict)]
    together: Annotated[dict[str, float | None], Field(default_factory=dict)]
    gains: Annotated[dict[str, _Gain], Field(default_factory=dict)]


class _WithEnsemble(Facts):
    ensemble: _Ensemble


def comparison_facts(study: Study) -> dict[str, Any]:
    """Return the facts of a comparison. Raises RunError for what is not one."""
    info = checked(study, _Comparison)
    if info["control"] >= len(info["variants"]):
        raise RunError(f"{study.path / study.index} is foreign: `control` is none of the variants")
    return info


def search_facts(study: Study) -> dict[str, Any]:
    """Return the facts of a search. Raises RunError for what is not one."""
    from danlu.study.strategies import STRATEGIES  # imports Optuna

    info = checked(study, _Search)
    if info["strategy"] not in STRATEGIES:
        raise RunError(f"{study.path / study.index} is foreign: `strategy` is {info['strategy']!r}")
    return info


def folds_facts(study: Study) -> dict[str, Any]:
    """Return the facts of a cross-validation. Raises RunError for what is not one."""
    return checked(study, _Folds)


def ensemble_facts(study: Study) -> dict[str, Any]:
    """Return the facts of a study that has an ensemble. Raises RunError for what has none."""
    info = checked(study, _WithEnsemble)
    if any(not 0 <= i < len(study) for i in info["ensemble"]["members"]):
        raise RunError(f"{study.path / study.index} is foreign: `ensemble` names no member of it")
    return info


def checked(study: Study, model: type[Facts]) -> dict[str, Any]:
    """Return the facts of a study. Raises RunError where they are not what a model says."""
    info = study.info
    check_facts(info, model, study.path / study.index)
    return info
