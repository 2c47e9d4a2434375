"""What a study shows, by its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from danlu.runs import Study
from danlu.study.comparison import Comparison
from danlu.study.decomposing.decomposition import KIND as DECOMPOSITION
from danlu.study.decomposing.decomposition import BiasVariance
from danlu.study.ensembling import KIND as ENSEMBLE
from danlu.study.ensembling import Ensemble
from danlu.study.folds import KIND as FOLDS
from danlu.study.folds import Folds
from danlu.study.treating.treatment import KIND as TREATMENT
from danlu.study.treating.treatment import Treatment

if TYPE_CHECKING:  # imports Optuna
    from danlu.study.tuning import Tuning

Shown: TypeAlias = "BiasVariance | Comparison | Ensemble | Folds | Treatment | Tuning"


def open_finished(study: Study) -> Shown | None:
    """Return what a finished study shows; None for one that only trained recipes."""
    kind = study.info["kind"]
    if kind == "compare":
        return Comparison(study)
    if kind == "tune":
        from danlu.study.opening import open_tuning

        return open_tuning(study)
    if kind == FOLDS:
        return Folds(study)
    if kind == ENSEMBLE:
        return Ensemble(study)
    if kind == DECOMPOSITION:
        return BiasVariance(study)
    return Treatment(study) if kind == TREATMENT else None
