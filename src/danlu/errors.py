"""The exception tree, and the one grammar every user-facing message follows.

A message names the thing, its value, the rule, and a way out:
"`optimizer.lr` is -0.1, but must be greater than 0; try 0.01".
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import types
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What a terminal would obey instead of showing it: control characters but line ends and tabs,
# changes of the writing direction, separators of lines, and halves of characters.
NOT_SHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


_LONGEST = 100  # characters of a name or value in a message


def printable(text: object) -> str:
    """Return a text as it may be shown: what a terminal would obey is replaced by a sign."""
    return NOT_SHOWN.sub("\ufffd", str(text))


class Mistake(str):
    """One mistake: a sentence, which also carries what it is made of.

    path: what is wrong, such as `optimizer.lr`; value: what was given; rule: what must hold;
    hint: a way out. A sentence written by hand has none of the four.
    """

    path: str | None = None
    value: Any = None
    rule: str | None = None
    hint: str | None = None

    @classmethod
    def about(cls, path: str, value: Any, rule: str, hint: str | None = None) -> Mistake:
        """Return "`path` is value, but rule; hint"."""
        return cls._with_fields(f"`{path}` is {_shown(value)}, but {rule}", path, value, rule, hint)

    @classmethod
    def unused(cls, path: str, rule: str, hint: str | None = None) -> Mistake:
        """Return "`path` rule; hint", for a field whose value does not matter."""
        return cls._with_fields(f"`{path}` {rule}", path, None, rule, hint)

    @classmethod
    def _with_fields(
        cls,
        sentence: str,
        path: str,
        value: Any,
        rule: str,
        hint: str | None,
    ) -> Mistake:
        if hint:
            sentence = f"{sentence}; {hint}"
        # A string cannot be given fields by its constructor.
        made = cls(sentence)
        made.path = path
        made.value = value
        made.rule = rule
        made.hint = hint
        return made

    def with_note(self, note: str) -> Mistake:
        """Return the same mistake with a remark after its sentence."""
        made = Mistake(f"{self} {note}")
        made.path = self.path
        made.value = self.value
        made.rule = self.rule
        made.hint = self.hint
        return made


def _shown(value: Any) -> str:
    # Names are shown as people write them, not as Python does.
    if isinstance(value, (tuple, list)) and all(isinstance(item, str) for item in value):
        return shortened(", ".join(value))
    return shortened(repr(value))


class DataNotice(UserWarning):
    """What was decided in reading data, and how to decide otherwise."""


class RunNotice(UserWarning):
    """What of a run's or study's folder could not be used, and what was done instead."""


def notify(sentence: str, kind: type[Warning]) -> None:
    """Warn of something, at the line outside of danlu that led there."""
    frame: types.FrameType | None = sys._getframe(1)
    level = 2  # of that frame, as `warnings` counts
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
        level += 1
    warnings.warn(printable(sentence), kind, stacklevel=level)


def _is_ours(frame: types.FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name == "contextlib" or str(name).startswith("danlu.")


class DanluError(Exception):
    """The root. Carries one or more mistakes, each one sentence; `str` joins them by lines."""

    exit_code = 2

    def __init__(self, *mistakes: str) -> None:
        super().__init__(*mistakes)
        self.mistakes = tuple(m if isinstance(m, Mistake) else Mistake(m) for m in mistakes)

    def __str__(self) -> str:
        return printable("\n".join(self.mistakes))


class RecipeError(DanluError):
    """A recipe that is not valid: unknown names, values out of range, contradictions."""


class DataError(DanluError):
    """A source that cannot be read or cannot be learnt from."""


class ModelError(DanluError):
    """A model that cannot be built for this input, or weights that do not fit it."""


class RunError(DanluError):
    """A run folder that is missing, foreign, damaged or in use."""


class Untrusted(RecipeError, RunError):
    """A file asks for something that only its user can allow, such as running its code."""


class StorageError(RunError):
    """The disk refused: full, read-only, gone. What was saved before is intact."""

    exit_code = 1


class TrainingError(DanluError):
    """A training that started and could not go on."""

    exit_code = 1


class Diverged(TrainingError):
    """The loss became NaN or infinite, at a step, first seen in a layer."""

    def __init__(self, *mistakes: str, step: int = 0, layer: str = "") -> None:
        super().__init__(*mistakes)
        self.step, self.layer = step, layer


class Interrupted(TrainingError):
    """The user pressed Ctrl-C; the run was saved."""

    exit_code = 130


def short_path(path: object) -> str:
    """Return a path as people would write it: from the working folder, where it lies within."""
    full = os.path.abspath(str(path))
    try:
        relative = os.path.relpath(full)
    except (ValueError, OSError):  # another drive, or a working folder that is gone
        return str(path)
    return str(path) if relative.startswith("..") else relative


def asked_as(option: str, value: str) -> str:
    """Return how to give an option: on the command line, and in Python."""
    return f"--{option} {value} ({option}={value!r})"


def way_on(path: object) -> str:
    """Return what to do with a run or study that isn't finished."""
    return f"go on with: danlu resume {short_path(path)}"


def stopped(way_on: str) -> Interrupted:
    """Return what is raised where the user stops a training that can go on."""
    return Interrupted(f"stopped, saved; {way_on}")


def cut_off(way_on: str) -> Interrupted:
    """Return what is raised where the user does not even wait for a checkpoint."""
    return Interrupted(f"stopped at once, not saved since the last checkpoint; {way_on}")


def wrong(path: str, value: Any, rule: str, hint: str | None = None) -> Mistake:
    """Return a mistake in the grammar; `rule` starts with "must" or "needs", `hint` with a verb."""
    return Mistake.about(path, value, rule, hint)


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Return the option most like `name`, or None when none is like it."""
    by_lower_case: dict[str, str] = {}
    for option in options:
        # Of names that differ in case only, the first one wins.
        by_lower_case.setdefault(option.lower(), option)
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    if not close:
        return None
    return by_lower_case[close[0]]


def unknown(path: str, value: str, options: Iterable[str]) -> Mistake:
    """Return the mistake of a value outside a list of names, with the nearest name as a hint."""
    known = sorted(options)
    near = nearest(value, known)
    hint = f"did you mean {near!r}?" if near else None
    listed = ", ".join(known)
    return wrong(path, value, f"must be one of {listed}", hint)


def reason_of(e: BaseException) -> str:
    """Return the first line of another's error, or its kind where it says nothing."""
    said = str(e).strip() or type(e).__name__
    return said.splitlines()[0]


def count(n: int, thing: str) -> str:
    """Return a number of things in words: "1 row", "3 rows"."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def first(mistakes: Sequence[str], things: str, most: int = 8) -> list[str]:
    """Return the first few of many mistakes of one kind, and how many more there are."""
    shown = list(mistakes[:most])
    left_out = len(mistakes) - most
    if left_out > 0:
        shown.append(f"and {left_out} more {things} like these")
    return shown


def cells(gaps: Mapping[str, int]) -> str:
    """Return missing cells by column in words: "2 in age, 1 in price"."""
    return ", ".join(f"{n:,} in {column}" for column, n in gaps.items())


def some(items: Iterable[Any], most: int = 3) -> str:
    """Return the first few items in words: "a, b, c and 4 more"."""
    listed = [shortened(str(item)) for item in items]
    shown = ", ".join(listed[:most])
    left_out = len(listed) - most
    if left_out > 0:
        return f"{shown} and {left_out} more"
    return shown


def shortened(text: str) -> str:
    """Return the beginning of a long text: a cell or a name may be a whole document."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def clock(seconds: float) -> str:
    """Return a duration such as 1:05 or 2:03:09."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"
