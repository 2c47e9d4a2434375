"""Choosing recipes by evidence: compare variants, tune hyper-parameters."""

from __future__ import annotations

from typing import Any

from danlu.study.compare import Comparison, compare, continue_comparison
from danlu.study.space import Choice, Range

__all__ = [
    "Choice",
    "Comparison",
    "Range",
    "Tuning",
    "compare",
    "continue_comparison",
    "continue_tuning",
    "tune",
]


def __getattr__(name: str) -> Any:  # Optuna is imported by the first search
    from importlib import import_module

    homes = {
        "tune": "danlu.study.search",
        "continue_tuning": "danlu.study.search",
        "Tuning": "danlu.study.tuning",
    }
    if name in homes:
        return getattr(import_module(homes[name]), name)
    raise AttributeError(f"module 'danlu.study' has no attribute {name!r}")
