"""The page of a study, by what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from danlu.report.pages.compare_page import write_comparison
from danlu.report.pages.decompose_page import write_decomposition
from danlu.report.pages.ensemble_page import write_ensemble
from danlu.report.pages.folds_page import write_folds
from danlu.report.pages.treat_page import write_treatment
from danlu.study import BiasVariance, Comparison, Ensemble, Folds
from danlu.study.treating.treatment import Treatment

if TYPE_CHECKING:
    from danlu.study.kinds import Shown


def write_study(found: Shown) -> Path:
    """Write report.html into the folder of a study that is over."""
    if isinstance(found, BiasVariance):
        return write_decomposition(found)
    if isinstance(found, Comparison):
        return write_comparison(found)
    if isinstance(found, Folds):
        return write_folds(found)
    if isinstance(found, Ensemble):
        return write_ensemble(found)
    if isinstance(found, Treatment):
        return write_treatment(found)
    from danlu.report.pages.tune_page import write_tuning

    return write_tuning(found)
