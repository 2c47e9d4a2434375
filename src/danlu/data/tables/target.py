"""Targets: classes or numbers, by one rule for files, frames and arrays.

Classes keep their spelling: 007 and 7 are two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.memmap import Array
from danlu.data.tables import cells
from danlu.data.tables.words import spelled, text_cells
from danlu.errors import DataError, asked_as, count, some, wrong

if TYPE_CHECKING:
    import pandas as pd

MAX_CLASSES = 20  # whole numbers of more values are classes only where they count from 0 or 1…
_FEWEST_PER_CLASS = 10  # …and each has so many examples
_MOST_SHOWN = 3
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Target:
    """The targets of the rows that have one.

    is_there [N]: which those are. y: class numbers, or float64 numbers where there are no classes.
    """

    y: Array
    classes: tuple[str, ...]
    is_there: Array
    style: str = ""
    notices: tuple[str, ...] = ()


def read_target(
    values: pd.Series[Any],
    task: str | None,
    name: str,
    comma_is_decimal: bool = False,
    dots_group: bool = False,
) -> Target:
    """Return the targets of a column, or of an array as a series.

    task: "classification" or "regression" where the user decides. name: of the source, for errors.
    Raises DataError for targets that nothing can be learnt from.
    """
    title = str(values.name)
    text = text_cells(values)
    if text is None:
        target = _of_numbers(values, task, title)
    else:
        text = text.str.strip()
        present = text[~cells.is_missing(text)]
        style = cells.number_style(present, comma_is_decimal, dots_group)
        target = _of_text(text, task, title, style)
    if not target.is_there.any():
        raise DataError(f"no row of {name} has a value in the target {title!r}; fill it in")
    _refuse_constant(target, title, name)
    return target


def _of_numbers(values: pd.Series[Any], task: str | None, title: str) -> Target:
    try:
        numbers = values.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError, OverflowError) as e:
        what = type(values.dropna().iloc[0]).__name__
        raise DataError(
            f"the target {title!r} holds cells of type {what}, but must hold classes or numbers"
        ) from e
    is_there = np.isfinite(numbers)
    present = numbers[is_there]
    if _are_classes(present, task):
        # As people write them: 3, not 3.0.
        spelled = np.array([f"{number:.15g}" for number in present], object)
        return _classified(spelled, is_there, task, title, are_numbers=True)
    return _numbered(numbers, "", title, ())


def _of_text(
    text: pd.Series[Any], task: str | None, title: str, found: tuple[str, cells.Numbers]
) -> Target:
    gaps = cells.is_missing(text)
    present = text[~gaps]
    style, numbers = found
    strays = np.isnan(numbers)
    has_numbers = len(present) > 0 and float(strays.mean()) <= cells.STRAYS
    if task == "regression" and not has_numbers:
        example = present.iloc[0] if len(present) else ""
        raise DataError(
            f"the target {title!r} holds {example!r}, but regression needs numbers; "
            f"try {asked_as('task', 'classification')}"
        )
    if has_numbers and not _are_classes(numbers[~strays], task):
        whole = np.full(len(text), np.nan)
        whole[~gaps] = numbers
        notices = []
        if strays.any():
            words = list(dict.fromkeys(present[strays].tolist()))
            notices.append(
                f"the target {title} holds numbers; {count(int(strays.sum()), 'cell')} with "
                f"{some(map(repr, words))} taken as missing"
            )
        return _numbered(whole, style, title, notices)
    # Of classes only an empty cell is missing: NA, None and ? may be names.
    is_there = (text.notna() & (text != "")).to_numpy(bool)
    are_numbers = has_numbers and not strays.any()
    if are_numbers:
        is_there = ~gaps  # among numbers NA is no name
    marks = [word for word in _distinct(text[is_there]) if word.lower() in cells.MISSING_MARKS]
    target = _classified(text[is_there].to_numpy(object), is_there, task, title, are_numbers)
    if not marks:
        return target
    notice = f"{some(map(repr, marks))} in the target {title} is taken as a class"
    return Target(target.y, target.classes, is_there, "", (*target.notices, notice))


def _distinct(text: pd.Series[Any]) -> list[str]:
    return [str(word) for word in text.unique()]


def _are_classes(numbers: Array, task: str | None) -> bool:
    """Whether numbers are rather names of classes.

    They are where they are whole, and at most 20 values, or count from 0 or 1 without a gap with
    ten examples each on average.
    """
    if task is not None:
        return task == "classification"
    size = np.abs(numbers)
    is_whole = bool((size < 2**53).all()) and bool((numbers == np.round(numbers)).all())
    if not is_whole or not len(numbers):
        return False
    distinct = np.unique(numbers)
    if len(distinct) <= MAX_CLASSES:
        return True
    counts_up = distinct[0] in (0, 1) and bool((np.diff(distinct) == 1).all())
    return counts_up and len(numbers) >= _FEWEST_PER_CLASS * len(distinct)


def _classified(
    spelled: Array, is_there: Array, task: str | None, title: str, are_numbers: bool
) -> Target:
    y, classes = number_classes(spelled.tolist(), are_numbers)
    notices: tuple[str, ...] = ()
    # From 0 or 1 on, as classes are counted, there is little doubt.
    if are_numbers and task is None and not _count_up([_value(name) for name in classes]):
        notices = (
            f"the target {title} holds {len(classes)} whole numbers, taken as classes; "
            f"{asked_as('task', 'regression')} takes them as numbers",
        )
    return Target(y, classes, is_there, "", notices)


def _count_up(values: Sequence[float]) -> bool:
    first = values[0]
    return first in (0, 1) and list(values) == [first + k for k in range(len(values))]


def number_classes(
    spelled: Sequence[str], are_numbers: bool | None = None
) -> tuple[Array, tuple[str, ...]]:
    """Return class numbers [N] and class names as they are spelled.

    Names that are numbers are in the order of those (10 comes after 9; of 7 and 07, the first in
    the alphabet), others in that of the alphabet. are_numbers: where that is known.
    """
    distinct = sorted(set(spelled))
    if are_numbers is None:
        are_numbers = all(math.isfinite(_value(name)) for name in distinct)
    if are_numbers:
        distinct.sort(key=_value)
    numbers = {name: k for k, name in enumerate(distinct)}
    y = np.fromiter((numbers[name] for name in spelled), np.int64, len(spelled))
    return y, tuple(distinct)


def _value(spelled: str) -> float:
    try:
        return float(spelled)
    except ValueError:
        return math.inf


def _numbered(numbers: Array, style: str, title: str, notices: Any) -> Target:
    notes = list(notices)
    is_infinite = np.isinf(numbers) | (np.abs(numbers) > LARGEST)
    if is_infinite.any():
        row = int(np.flatnonzero(is_infinite)[0]) + 1
        raise DataError(
            f"row {row} of the target {title!r} is infinite or beyond ±{LARGEST:.1e}; rescale it"
        )
    is_there = ~np.isnan(numbers)
    if style not in ("", cells.PLAIN):
        notes.append(f"the target {title} holds numbers, written such as {style}")
    return Target(numbers[is_there], (), is_there, style, tuple(notes))


def _refuse_constant(target: Target, title: str, name: str) -> None:
    n = int(target.is_there.sum())
    if target.classes:
        if len(target.classes) == 1:
            raise DataError(
                f"every row of {name} is of the one class {target.classes[0]!r} in {title!r}; "
                "name another target"
            )
        if n > MAX_CLASSES and len(target.classes) > n / 2:
            raise DataError(
                f"the target {title!r} has {len(target.classes):,} different values in {n:,} rows "
                f"of {name}, so it names rows and no classes; name another target"
            )
    elif n > 1 and np.ptp(target.y) == 0:
        raise DataError(
            f"the target {title!r} is {target.y[0]:g} in every row of {name}; name another target"
        )


def known_target(values: pd.Series[Any], classes: tuple[str, ...], style: str) -> Target:
    """Return targets as a trained run has them, −1 for a class that it was not trained on.

    classes: of the run; none where it predicts numbers, which are written in `style`.
    """
    text = text_cells(values)
    title = str(values.name)
    if not classes:
        if text is None:
            return _numbered(values.to_numpy(np.float64, na_value=np.nan), "", title, ())
        return _numbered(cells.to_numbers(text, style or cells.PLAIN), style, title, ())
    words = spelled(values).str.strip()
    is_there = (words.notna() & (words != "")).to_numpy(bool)
    known = _known_spellings(classes)
    numbers = words[is_there].map(known.get).to_numpy(np.float64, na_value=np.nan)
    y = np.where(np.isnan(numbers), -1, numbers).astype(np.int64)
    return Target(y, classes, is_there)


class _Spellings(dict[str, int]):
    """Class numbers by name, also where case differs (True, TRUE), or a fraction of 0 (1, 1.0)."""

    def get(self, word: Any, default: Any = None) -> Any:
        found = super().get(word)
        if found is not None:
            return found
        text = str(word)
        return super().get(text.lower(), super().get(text.removesuffix(".0"), default))


def _known_spellings(classes: Sequence[str]) -> _Spellings:
    known = _Spellings()
    lower = [name.lower() for name in classes]
    if len(set(lower)) == len(classes):  # of yes and Yes neither is meant by YES
        known.update({name: k for k, name in enumerate(lower)})
    known.update({name: k for k, name in enumerate(classes)})
    return known


def unseen_notices(target: Target, values: pd.Series[Any], name: str) -> tuple[str, ...]:
    """Return in words which classes a trained run never met."""
    if not target.classes:
        return ()
    return unseen_words(target.y, spelled(values)[target.is_there].tolist(), name)


def unseen_words(y: Array, words: Sequence[str], name: str) -> tuple[str, ...]:
    """Return in words which classes a trained run never met: nothing it says of them is right."""
    new = [word for word, number in zip(words, y.tolist(), strict=True) if number < 0]
    if not new:
        return ()
    shown = some((repr(word) for word in dict.fromkeys(new)), _MOST_SHOWN)
    return (
        f"{count(len(new), 'row')} of {name} with {shown}, which the run was not trained on, count "
        "as errors",
    )


def check_task(task: str | None) -> None:
    """Raise DataError for a task that no table has."""
    if task not in (None, "classification", "regression"):
        raise DataError(
            wrong("task", task, "must be classification or regression for such a table")
        )
