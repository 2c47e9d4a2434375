"""Options of `load`: checked all at once, and refused where a source has no use for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from danlu.data.memmap import parse_bytes
from danlu.data.tables.roles import OVERRIDES
from danlu.errors import DataError, wrong

Options = dict[str, Any]

_CHOICES = {
    "task": ("classification", "regression", "text", "pairs", "tags", "language"),
    "mode": ("L", "RGB"),
    "missing": ("fill", "drop", "refuse"),
    "header": ("first", "none"),
    "tags": ("lenient", "strict"),
}
_ALWAYS_USED = ("budget", "like")
_LARGEST_SIDE = 4096


def checked(given: Mapping[str, Any]) -> Options:
    """Return the options as sources read them. Raises DataError for all mistakes at once.

    `resize` becomes (height, width), `memory` a `budget` in bytes, columns tuples of names; what is
    left out, or is False, becomes None.
    """
    options: Options = {}
    mistakes: list[str] = []
    for name, value in given.items():
        read = _READERS.get(name)
        if read is None:
            options[name] = value
            continue
        try:
            options[name] = read(name, value)
        except DataError as e:
            mistakes += e.mistakes
    if mistakes:
        raise DataError(*mistakes)
    options["budget"] = options.pop("memory")
    return options


def refuse_unused(options: Mapping[str, Any], used: Sequence[str], what: str) -> None:
    """Raise DataError for every option that was given but does nothing for this kind of source."""
    mistakes = []
    for name, value in options.items():
        if value is None or name in used or name in _ALWAYS_USED:
            continue
        rule = f"must be left out: it does nothing for {what}"
        mistakes.append(wrong(name, _as_typed(value), rule))
    if mistakes:
        raise DataError(*mistakes)


def _as_typed(value: Any) -> Any:
    """Return a size as it was most likely given: one side of a square."""
    is_square = isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]
    return value[0] if is_square else value


def _choice(name: str, value: Any) -> Any:
    allowed = _CHOICES[name]
    if value is not None and value not in allowed:
        listed = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
        raise DataError(wrong(name, value, f"must be {listed}"))
    return value


def _whole_number(name: str, value: Any) -> Any:
    if value is None:
        return None
    if type(value) is not int:
        raise DataError(wrong(name, value, "must be a whole number"))
    if value < 1:
        raise DataError(wrong(name, value, "must be at least 1"))
    return value


def _size(name: str, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = (value, value) if isinstance(value, int) else value
    are_two = isinstance(sides, (tuple, list)) and len(sides) == 2
    if not are_two or not all(isinstance(side, int) for side in sides):
        rule = "must be a number of pixels, or height and width"
        raise DataError(wrong(name, value, rule, "try 28"))
    height, width = sides
    if not all(1 <= side <= _LARGEST_SIDE for side in (height, width)):
        rule = f"must lie between 1 and {_LARGEST_SIDE} pixels"
        raise DataError(wrong(name, value, rule, "try 28"))
    return height, width


def _columns(name: str, value: Any) -> tuple[str, ...] | None:
    """Return names of columns, from a list or from a text with commas."""
    if value is None:
        return None
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)):
        raise DataError(wrong(name, value, "must be names of columns", f"try {name}='a,b'"))
    found = tuple(str(column).strip() for column in listed)
    return found or None


def _flag(name: str, value: Any) -> bool | None:
    if value not in (None, True, False):
        raise DataError(wrong(name, value, "must be true or false"))
    return True if value else None


def _bytes(name: str, value: Any) -> int:
    return parse_bytes(value)


def _title(name: str, value: Any) -> Any:
    """Return the name of a column: frames may have numbers as names."""
    return None if value is None else str(value)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(_CHOICES, _choice),
    **dict.fromkeys(OVERRIDES, _columns),
    "target": _title,
    "resize": _size,
    "memory": _bytes,
    "length": _whole_number,
    "vocabulary": _whole_number,
    "lines": _flag,
    "log_target": _flag,
}
