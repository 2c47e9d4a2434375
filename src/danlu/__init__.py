"""danlu: train neural networks by evidence.

>>> import danlu
>>> run = danlu.fit(danlu.Recipe(model="cnn", optimizer="adam"), danlu.load("mnist"))
>>> run.result["test_accuracy"]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from danlu.data import Data, load
    from danlu.diagnosis import (
        Checkup,
        Diagnosis,
        Finding,
        GradientCheck,
        Watch,
        check,
        diagnose,
        gradcheck,
        watch,
    )
    from danlu.errors import DanluError
    from danlu.recipe import Recipe
    from danlu.runs import Run, Study
    from danlu.study.compare import compare
    from danlu.study.comparison import Comparison
    from danlu.study.decomposing.decompose import decompose
    from danlu.study.decomposing.decomposition import BiasVariance
    from danlu.study.ensembling import Ensemble, ensemble
    from danlu.study.folds import Folds, cross_validate
    from danlu.study.label_suspects import Suspects, suspects
    from danlu.study.resuming import resume
    from danlu.study.search import tune
    from danlu.study.treating.treat import treat
    from danlu.study.treating.treatment import Treatment
    from danlu.study.tuning import Tuning
    from danlu.train import Listener, fit

__version__ = "0.1.0"
_HOMES = {
    "Data": "danlu.data",
    "load": "danlu.data",
    "DanluError": "danlu.errors",
    "Checkup": "danlu.diagnosis",
    "Diagnosis": "danlu.diagnosis",
    "Finding": "danlu.diagnosis",
    "GradientCheck": "danlu.diagnosis",
    "Watch": "danlu.diagnosis",
    "check": "danlu.diagnosis",
    "gradcheck": "danlu.diagnosis",
    "diagnose": "danlu.diagnosis",
    "watch": "danlu.diagnosis",
    "Recipe": "danlu.recipe",
    "Run": "danlu.runs",
    "Study": "danlu.runs",
    "Comparison": "danlu.study",
    "compare": "danlu.study",
    "Suspects": "danlu.study",
    "suspects": "danlu.study",
    "Treatment": "danlu.study",
    "treat": "danlu.study",
    "Tuning": "danlu.study",
    "tune": "danlu.study",
    "BiasVariance": "danlu.study",
    "decompose": "danlu.study",
    "Ensemble": "danlu.study",
    "ensemble": "danlu.study",
    "Folds": "danlu.study",
    "cross_validate": "danlu.study",
    "Listener": "danlu.train",
    "fit": "danlu.train",
    "resume": "danlu.study",
}
_ROOMS = {"optim", "train"}  # whose own names are public, too: danlu.optim.Optimizer
__all__ = [
    "BiasVariance",
    "Checkup",
    "Comparison",
    "DanluError",
    "Data",
    "Diagnosis",
    "Ensemble",
    "Finding",
    "Folds",
    "GradientCheck",
    "Listener",
    "Recipe",
    "Run",
    "Study",
    "Suspects",
    "Treatment",
    "Tuning",
    "Watch",
    "__version__",
    "check",
    "compare",
    "cross_validate",
    "decompose",
    "diagnose",
    "ensemble",
    "fit",
    "gradcheck",
    "load",
    "resume",
    "suspects",
    "treat",
    "tune",
    "watch",
]


def __getattr__(name: str) -> Any:  # PyTorch is imported by the first name that needs it
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"danlu.{name}")
    raise AttributeError(f"module 'danlu' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
