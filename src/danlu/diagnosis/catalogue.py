"""The words of findings and prescriptions, by language."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from danlu.files import parse_toml

LANGUAGES = ("en", "zh")


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
    """Return in a sentence why a training is ill, with the figures that show it."""
    template = str(_words()["causes"][cause][f"why_{language}"])
    return template.format_map(figures)


def prescription(reason: str, language: str = "en") -> str:
    """Return in a sentence what a prescription is good for."""
    return str(_words()["prescriptions"][reason][language])


def unseen(name: str, language: str = "en") -> str:
    """Return in a sentence what could not be seen."""
    return str(_words()["unseen"][name][language])


def of_errors(name: str, figures: Mapping[str, Any], language: str = "en") -> str:
    """Return a sentence on what an error is made of."""
    return str(_words()["errors"][name][language]).format_map(figures)


def check_title(name: str, language: str = "en") -> str:
    """Return what a check before training is called."""
    return str(_words()["checks"][name][f"title_{language}"])


def checked(name: str, state: str, figures: Mapping[str, Any], language: str = "en") -> str:
    """Return in a sentence what a check found."""
    template = str(_words()["checks"][name][f"{state}_{language}"])
    return template.format_map(figures)
