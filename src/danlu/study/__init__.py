"""Choosing recipes by evidence: compare variants, treat, tune hyper-parameters."""

from __future__ import annotations

from typing import Any

from danlu.study.compare import compare, continue_comparison
from danlu.study.comparison import Comparison
from danlu.study.decomposing.decompose import continue_decomposition, decompose
from danlu.study.decomposing.decomposition import BiasVariance
from danlu.study.ensembling import Ensemble, continue_ensemble, ensemble
from danlu.study.folds import Folds, cross_validate
from danlu.study.label_suspects import Suspects, suspects
from danlu.study.resuming import resume
from danlu.study.space import Choice, Range
from danlu.study.treating.treat import continue_treatment, treat
from danlu.study.treating.treatment import Treatment

__all__ = [
    "BiasVariance",
    "Choice",
    "Comparison",
    "Ensemble",
    "Folds",
    "Range",
    "Suspects",
    "Treatment",
    "Tuning",
    "compare",
    "continue_comparison",
    "continue_decomposition",
    "continue_ensemble",
    "continue_treatment",
    "continue_tuning",
    "cross_validate",
    "decompose",
    "ensemble",
    "resume",
    "suspects",
    "treat",
    "tune",
]

_LAZY = {
    "tune": "danlu.study.search",
    "continue_tuning": "danlu.study.search",
    "Tuning": "danlu.study.tuning",
}


def __getattr__(name: str) -> Any:  # Optuna is imported by the first search
    from importlib import import_module

    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'danlu.study' has no attribute {name!r}")
