"""The exception tree, and the one grammar every user-facing message follows.

A message names the thing, its value, the rule, and a way out:
"`optimizer.lr` is -0.1, but must be greater than 0; try 0.01".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class DanluError(Exception):
    """The root. Carries one or more mistakes, each one sentence; `str` joins them by lines."""

    exit_code = 2

    def __init__(self, *mistakes: str) -> None:
        super().__init__(*mistakes)
        self.mistakes = mistakes

    def __str__(self) -> str:
        return "\n".join(self.mistakes)


class RecipeError(DanluError):
    """A recipe that cannot be: unknown names, values out of range, contradictions."""


class DataError(DanluError):
    """A source that cannot be read or cannot be learnt from."""


class ModelError(DanluError):
    """A model that cannot be built for this input, or weights that do not fit it."""


class RunError(DanluError):
    """A run folder that is missing, foreign, damaged or in use."""


class StorageError(RunError):
    """The disk refused: full, read-only, gone. What was saved before is intact."""

    exit_code = 1


class TrainingError(DanluError):
    """A training that started and could not go on."""

    exit_code = 1


class Diverged(TrainingError):
    """The loss became NaN or infinite."""

    def __init__(self, *mistakes: str, step: int, layer: str) -> None:
        super().__init__(*mistakes)
        self.step, self.layer = step, layer


class Interrupted(TrainingError):
    """The user pressed Ctrl-C; the run was saved."""

    exit_code = 130


def wrong(name: str, value: Any, rule: str, hint: str | None = None) -> str:
    """One mistake in the grammar; `rule` starts with "must" or "needs", `hint` with a verb."""
    names = isinstance(value, (tuple, list)) and all(isinstance(v, str) for v in value)
    return f"`{name}` is {', '.join(value) if names else repr(value)}, but {rule}" + (
        f"; {hint}" if hint else ""
    )


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option most like `name`, or None when none is like it."""
    known = list(options)
    folded = {o.lower(): o for o in reversed(known)}
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return folded[found[0]] if found else None


def unknown(name: str, value: str, options: Iterable[str]) -> str:
    """A value outside a list of names, with the nearest name or the whole list."""
    known = sorted(options)
    near = nearest(value, known)
    hint = f"did you mean {near!r}?" if near else None
    return wrong(name, value, "must be one of " + ", ".join(known), hint)


def count(n: int, thing: str) -> str:
    """A number of things in words: "1 row", "3 rows"."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def first(mistakes: Sequence[str], things: str, most: int = 8) -> list[str]:
    """The first few of many mistakes of one kind, and how many more there are."""
    more = len(mistakes) - most
    return [*mistakes[:most], *([f"and {more} more {things} like these"] if more > 0 else [])]


def cells(gaps: Mapping[str, int]) -> str:
    """Missing cells by column: "2 in age, 1 in price"."""
    return ", ".join(f"{n:,} in {column}" for column, n in gaps.items())


def some(items: Iterable[Any], most: int = 3) -> str:
    """The first few items in words: "a, b, c and 4 more"."""
    listed = [str(i) for i in items]
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")


def clock(seconds: float) -> str:
    """1:05, or 2:03:09."""
    s = round(seconds)
    return f"{s // 3600}:{s // 60 % 60:02}:{s % 60:02}" if s >= 3600 else f"{s // 60}:{s % 60:02}"
