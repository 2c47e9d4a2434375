"""The recipes that come with danlu."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable


def _folder() -> Traversable:
    return resources.files("danlu.recipe") / "presets"


def presets() -> list[str]:
    """Return the names of the recipes that come with danlu."""
    files = [file.name for file in _folder().iterdir() if file.name.endswith(".toml")]
    return sorted(name.removesuffix(".toml") for name in files)


def preset_text(name: str) -> str:
    """Return a preset's TOML."""
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")
