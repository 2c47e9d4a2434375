"""The words of findings and prescriptions, by language."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any

from danlu import metrics
from danlu.data.parts import TITLES
from danlu.files import parse_toml

LANGUAGES = ("en", "zh")
SPACES = {"en": " ", "zh": ""}  # between sentences
COLONS = {"en": ": ", "zh": "："}
_IN_FIGURES = {"zh": {" points": " 个百分点", " to ": " 到 "}}  # words within figures


@cache
def _words() -> dict[str, Any]:
    text = files("danlu.diagnosis").joinpath("catalogue.toml").read_text("utf-8")
    return parse_toml(text)


def causes() -> list[str]:
    """Return every cause that has words."""
    return list(_words()["causes"])


def title(cause: str, language: str = "en") -> str:
    """Return what a cause is called."""
    return str(_words()["causes"][cause][f"title_{language}"])


def why(cause: str, figures: Mapping[str, Any], language: str = "en") -> str:
    """Return why a training is ill, with the figures that show it.

    Of several sentences, those whose figures are known.
    """
    words = _words()["causes"][cause][f"why_{language}"]
    if isinstance(words, str):
        return words.format_map(figures)
    known = [sentence for sentence in words if _has_figures(sentence, figures)]
    return SPACES[language].join(sentence.format_map(figures) for sentence in known)


def _has_figures(sentence: str, figures: Mapping[str, Any]) -> bool:
    """Whether all figures of a sentence are there, and finite."""
    for _, name, _, _ in Formatter().parse(sentence):
        if name is None:
            continue
        if name not in figures:
            return False
        value = figures[name]
        if isinstance(value, float) and not math.isfinite(value):
            return False
    return True


def prescription(reason: str, language: str = "en") -> str:
    """Return in a sentence what a prescription is good for."""
    return str(_words()["prescriptions"][reason][language])


def unseen(name: str, language: str = "en") -> str:
    """Return in a sentence what could not be seen."""
    return str(_words()["unseen"][name][language])


def of_errors(name: str, figures: Mapping[str, Any], language: str = "en") -> str:
    """Return a sentence on what an error is made of."""
    return str(_words()["errors"][name][language]).format_map(figures)


def of_treatment(name: str, figures: Mapping[str, Any], language: str = "en") -> str:
    """Return a sentence on what a treatment tried, or a word of its tables."""
    return str(_words()["treatment"][name][language]).format_map(figures)


def title_of_metric(name: str, language: str = "en") -> str:
    """Return a figure in words: "valid_macro_f1" is "valid macro-F1"."""
    if language == "en":
        return metrics.title_of(name)
    part, rest = metrics.part_and_name(name)
    words = _words()["figures"]
    title = words[rest][language] if rest in words else metrics.title_of(rest)
    return f"{words[part][language] if part else ''}{title}"


def part(name: str, language: str = "en") -> str:
    """Return what a part of the data is called."""
    return TITLES[name] if language == "en" else str(_words()["figures"][name][language])


def figure(shown: str, language: str = "en") -> str:
    """Return a gain or interval, as it is shown in English, in the language."""
    for english, own in _IN_FIGURES.get(language, {}).items():
        shown = shown.replace(english, own)
    return shown


def check_title(name: str, language: str = "en") -> str:
    """Return what a check before training is called."""
    return str(_words()["checks"][name][f"title_{language}"])


def checked(name: str, state: str, figures: Mapping[str, Any], language: str = "en") -> str:
    """Return in a sentence what a check found."""
    template = str(_words()["checks"][name][f"{state}_{language}"])
    return template.format_map(figures)
