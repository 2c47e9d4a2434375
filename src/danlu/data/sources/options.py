"""Options of `load`, and the refusal of those a source has no use for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from danlu.errors import DataError, wrong


def refuse_unused(options: Mapping[str, Any], used: Sequence[str], what: str) -> None:
    """Raise DataError for every option that was given but does nothing for this kind of source."""
    given = {
        k: v for k, v in options.items() if v is not None and k not in (*used, "budget", "like")
    }
    if given:
        raise DataError(
            *(
                wrong(k, _typed(v), f"must be left out: it does nothing for {what}")
                for k, v in given.items()
            )
        )


def _typed(value: Any) -> Any:
    """A size as it was most likely given: one side of a square."""
    return value[0] if isinstance(value, tuple) and value[0] == value[1] else value
