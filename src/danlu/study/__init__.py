"""Choosing recipes by evidence: compare variants, tune hyper-parameters."""

from danlu.study.compare import Comparison, compare, continue_comparison

__all__ = ["Comparison", "compare", "continue_comparison"]
