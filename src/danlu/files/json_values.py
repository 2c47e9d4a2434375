"""JSON as danlu writes it: no NaN or infinity, and no nesting that only an attack would have."""

from __future__ import annotations

import json
import math
from typing import Any


def with_nulls(value: Any) -> Any:
    """Return a value with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: with_nulls(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_nulls(inner) for inner in value]
    return value


def with_nan(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures with NaN for None, as which they were written."""
    return {name: math.nan if value is None else value for name, value in figures.items()}


def as_json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON text."""
    return json.dumps(with_nulls(value), indent=indent, ensure_ascii=False, allow_nan=False)


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError for anything else.

    Also for what Python's parser gives up on: nesting thousands deep, or numbers of thousands of
    digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as e:
        if "integer string conversion" in str(e):  # Python's words are for programmers
            raise ValueError("it has a number of more than 4,300 digits") from None
        raise
