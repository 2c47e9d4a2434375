"""Comparisons, searches and treatments in the terminal."""

from __future__ import annotations

from danlu.report.tables import comparisons, searches, treatments
from danlu.report.terminal.console import say, table
from danlu.study import Comparison
from danlu.study.treating.treatment import Treatment
from danlu.study.tuning import Tuning

_BEST = 5


def print_comparison(c: Comparison) -> None:
    """Print table, verdict, method."""
    table(comparisons.head(c), comparisons.rows(c))
    say("")
    for sentence in c.sentences():
        say(sentence)
    say(f"({c.method()})")


def print_tuning(t: Tuning) -> None:
    """Print the best trials, what mattered, the verdict."""
    table(searches.head(t), searches.rows(t, _BEST))
    say("")
    if t.importance:
        say(f"What mattered (share of the variance): {searches.importance_words(t)}")
    for sentence in t.sentences():
        say(sentence)


def print_treatment(t: Treatment, language: str) -> None:
    """Print what each round tried, the story, the method."""
    for number in range(len(t.rounds)):
        table(treatments.head(number, language), treatments.rows(t, number, language))
        say("")
    for sentence in t.sentences(language):
        say(sentence)
    if t.rounds:
        say(f"({t.method(language)})")
