"""The language of findings and advice."""

from __future__ import annotations

import locale
import os
from typing import Annotated

import typer

from danlu.errors import DanluError, unknown

Language = Annotated[
    str | None, typer.Option("--lang", help="en or zh; default: that of the terminal.")
]


def language_of(asked: str | None) -> str:
    """Return the language asked for, else the locale's. Raises DanluError for another one."""
    from danlu.diagnosis.catalogue import LANGUAGES

    if asked is None:
        return "zh" if _locale().lower().startswith(("zh", "chinese")) else "en"
    if asked not in LANGUAGES:
        raise DanluError(unknown("lang", asked, LANGUAGES))
    return asked


def _locale() -> str:
    """Return the locale's name, also where the machine does not have that locale."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if os.environ.get(variable):
            return os.environ[variable]
    return locale.getlocale()[0] or ""
