"""Options of `load`, and the refusal of those a source has no use for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from danlu.errors import DataError, wrong

_ANYWHERE = ("budget", "missing")  # where nothing can be missing, leaving such rows out is no mistake


def refuse_unused(options: Mapping[str, Any], used: Sequence[str], what: str) -> None:
    """Raise DataError for every option that was given but does nothing for this kind of source."""
    given = {k: v for k, v in options.items() if v is not None and k not in (*used, *_ANYWHERE)}
    if given:
        raise DataError(*(wrong(k, v, f"must be left out: it does nothing for {what}") for k, v in given.items()))
