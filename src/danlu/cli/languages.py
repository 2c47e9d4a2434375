"""The language of findings and advice."""

from __future__ import annotations

import locale
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
        name, _ = locale.getlocale()
        return "zh" if (name or "").lower().startswith(("zh", "chinese")) else "en"
    if asked not in LANGUAGES:
        raise DanluError(unknown("lang", asked, LANGUAGES))
    return asked
