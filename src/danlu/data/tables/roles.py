"""What each column of a table is: decided by what is in it, unless the user says otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from danlu.data.column import MAX_INDICATORS
from danlu.data.tables import cells
from danlu.data.tables.words import Words, spelled, text_cells
from danlu.errors import DataError, count, nearest, some, wrong

if TYPE_CHECKING:
    import pandas as pd

Role = Literal[
    "number", "category", "text", "date", "identifier", "constant", "empty", "lists", "target"
]
USED: tuple[Role, ...] = ("number", "category", "date")  # by default, as features
_NO_CATEGORY = 0.5  # distinct values per cell: from so many on, blanks make a text of it
_REPEATS = 0.1  # distinct values per cell: up to so many, even long texts are levels
_IDENTIFIES = 0.95  # distinct values per cell: from so many on, words and codes name rows
_WORDS_OF_TEXT = 4  # on average
_LENGTH_OF_TEXT = 60  # characters, on average
_FEWEST_ROWS = 20  # fewer cannot show that values name rows
# customer_id, PassengerId; not paid or grid.
_ID_NAME = re.compile(
    r"(?i:(^|[_\W])(id|pid|uid|uuid|guid|rownames|serial|编号|序号)$)|[a-z]I[dD]$"
)
_UNNAMED = re.compile(r"^(unnamed: \d+|index|)$", re.I)
_SIGNS_OF_WORDS = "[\u3040-\u30ff\u3400-\u9fff]"
_CODE = re.compile(r"0\d+")


@dataclass(frozen=True)
class Reading:
    """A column as it was read.

    values: float64 of numbers, dates of dates, else an array of texts; None or NaN where a cell is
    missing. why: in a few words, what the role was decided by, where that is not plain.
    """

    name: str
    role: Role
    values: pd.Series[Any]
    style: str = ""
    missing: int = 0
    distinct: int = 0
    why: str = ""
    notices: tuple[str, ...] = ()
    is_dropped: bool = False

    @property
    def is_used(self) -> bool:
        """Whether it is a feature."""
        return self.role in USED and not self.is_dropped


@dataclass(frozen=True)
class Overrides:
    """What the user says of columns, by name."""

    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    number: tuple[str, ...] = ()

    def by_role(self) -> dict[str, tuple[str, ...]]:
        """Return the columns of each option."""
        return {name: getattr(self, name) for name in OVERRIDES}

    def of(self, column: str) -> str | None:
        """Return the option that names a column."""
        return next((name for name, named in self.by_role().items() if column in named), None)

    def check(self, known: Sequence[str], target: str | None, name: str) -> None:
        """Raise DataError for columns that are not there, named twice, or the target."""
        mistakes = []
        seen: dict[str, str] = {}
        for option, named in self.by_role().items():
            for column in named:
                if column not in known:
                    near = nearest(column, known)
                    hint = f"did you mean {near!r}?" if near else f"they are {some(known, 8)}"
                    mistakes.append(wrong(option, column, f"must be a column of {name}", hint))
                elif column == target:
                    mistakes.append(wrong(option, column, "must not be the target"))
                elif column in seen:
                    mistakes.append(
                        wrong(
                            option, column, f"must not be in `{seen[column]}`, too", "name it once"
                        )
                    )
                seen[column] = option
        if mistakes:
            raise DataError(*mistakes)


OVERRIDES = ("drop", "keep", "category", "text", "number")


def uses_decimal_comma(frame: pd.DataFrame) -> bool:
    """Whether some column can only be numbers with a decimal comma, such as 45,06."""
    for name in frame.columns:
        text = text_cells(frame[name])
        if text is None or "," not in "\n".join(text.dropna().tolist()):
            continue
        if cells.has_decimal_comma(Words.of(text).present):
            return True
    return False


def read_columns(
    frame: pd.DataFrame,
    target: str | None,
    overrides: Overrides,
    comma_is_decimal: bool = False,
) -> list[Reading]:
    """Return each column but the target with its role."""
    names = [name for name in frame.columns if name != target]
    texts = {name: text_cells(frame[name]) for name in names}
    # Most columns of most tables are plain numbers, which are read at once.
    plain = {name: cells.plain_numbers(text) for name, text in texts.items() if text is not None}
    words = {
        name: Words.of(text)
        for name, text in texts.items()
        if text is not None and plain[name] is None
    }
    dots_group = any(cells.has_decimal_comma(column.present) for column in words.values())
    comma_is_decimal = comma_is_decimal or dots_group
    readings = []
    for position, name in enumerate(names):
        told = overrides.of(name)
        numbers = plain.get(name)
        text = texts[name]
        if numbers is not None and (dots_group or told in ("category", "text")):
            assert text is not None
            words[name] = Words.of(text)
        if numbers is not None and name not in words:
            reading = _numbers(name, numbers, cells.PLAIN)
        elif name in words:
            reading = _read_text(words[name], name, told, comma_is_decimal, dots_group)
        else:
            reading = _read_typed(frame[name], name)
        if told is None:
            reading = _left_out(reading, position == 0, len(names))
        readings.append(_as_told(reading, frame[name], told))
    return readings


def _read_typed(values: pd.Series[Any], name: str) -> Reading:
    """Read a column that has a type of its own: numbers, dates, or something that is no cell."""
    import pandas as pd

    missing = int(values.isna().sum())
    if pd.api.types.is_datetime64_any_dtype(values):
        dates = pd.to_datetime(values, utc=True).dt.tz_localize(None)
        return Reading(name, "date", dates, missing=missing, distinct=int(values.nunique()))
    numbers = _as_numbers(values)
    if numbers is not None:
        return _numbers(name, numbers, cells.PLAIN)
    first = values.dropna()
    if len(first) and type(first.iloc[0]).__name__ in ("date", "datetime", "Timestamp"):
        dates = pd.to_datetime(values, errors="coerce")
        return Reading(name, "date", dates, missing=missing, distinct=int(values.nunique()))
    what = type(first.iloc[0]).__name__ if len(first) else "nothing"
    if what == "nothing":
        return Reading(name, "empty", values, missing=missing)
    return Reading(name, "lists", values, missing=missing, why=f"its cells are of type {what}")


def _as_numbers(values: pd.Series[Any]) -> np.ndarray[Any, Any] | None:
    try:
        return values.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError, OverflowError):
        return None


def _numbers(
    name: str, numbers: np.ndarray[Any, Any], style: str, notices: Sequence[str] = ()
) -> Reading:
    """Return a column of numbers; infinite ones are missing."""
    import pandas as pd

    infinite = np.isinf(numbers)
    notes = list(notices)
    if infinite.any():
        numbers = np.where(infinite, np.nan, numbers)
        notes.append(f"{name}: {count(int(infinite.sum()), 'infinite cell')} taken as missing")
    series = pd.Series(numbers)
    distinct = int(series.nunique())
    missing = int(np.isnan(numbers).sum())
    role: Role = "number"
    if distinct == 0:
        role = "empty"
    elif distinct == 1 and not missing:
        role = "constant"
    return Reading(name, role, series, style, missing, distinct, notices=tuple(notes))


def _read_text(
    words: Words, name: str, told: str | None, comma_is_decimal: bool, dots_group: bool
) -> Reading:
    """Read cells of text: as numbers or dates where the whole column is so, else as words."""
    if words.present.empty:
        return Reading(name, "empty", words.spread(words.present, None), missing=words.n_missing)
    if told not in ("category", "text"):
        numbers = cells.number_style(words.present, comma_is_decimal, dots_group)
        found = _numbers_of_text(words, name, told == "number", numbers)
        if found is not None:
            return found
        style = cells.date_style(words.present, name)
        if style is not None:
            return _dates(words, name, style)
    return _words(words, name)


def _numbers_of_text(
    words: Words, name: str, is_told: bool, found: tuple[str, cells.Numbers]
) -> Reading | None:
    import pandas as pd

    present = words.present
    if not is_told and _are_codes(words):
        return None
    style, numbers = found
    is_stray = np.isnan(numbers)
    n_strays = int(words.cells_of_present[is_stray].sum())
    share = n_strays / int(words.cells_of_present.sum())
    if is_told and is_stray.all():
        raise DataError(
            wrong("number", name, f"must hold numbers, but has {present.iloc[0]!r}", "leave it out")
        )
    if share > cells.STRAYS and not is_told:
        return None
    notices = []
    if n_strays:
        notices.append(
            f"{name} holds numbers; {count(n_strays, 'cell')} with "
            f"{some(map(repr, present[is_stray]))} taken as missing"
        )
    if style != cells.PLAIN:
        differs = ~is_stray & (cells.to_numbers(present, cells.PLAIN) != numbers)
        first = int(np.flatnonzero(differs)[0])
        notices.append(
            f"{name} holds numbers, written such as {present.iloc[first]!r} for {numbers[first]:g}"
        )
    whole = words.spread(pd.Series(numbers), np.nan)
    return _numbers(name, whole.to_numpy(), style, notices)


def _are_codes(words: Words) -> bool:
    """Whether numbers are rather names, such as zip codes: 02134 is not the number 2134."""
    present = words.present
    is_code = present.str.fullmatch(_CODE.pattern, na=False)
    if not bool(is_code.any()):
        return False
    return present.str.len().nunique() == 1 or bool(is_code.mean() > 0.5)


def _dates(words: Words, name: str, style: str) -> Reading:
    import pandas as pd

    of_words = cells.to_dates(words.present, style)
    notices = []
    strays = of_words.isna().to_numpy()
    n_strays = int(words.cells_of_present[strays].sum())
    if n_strays:
        notices.append(
            f"{name} holds dates; {count(n_strays, 'cell')} with "
            f"{some(map(repr, words.present[strays]))} taken as missing"
        )
    other = cells.OTHER_ORDER.get(style)
    if other and cells.to_dates(words.present[~strays], other).notna().all():
        notices.append(f"{name} holds dates, read with the month first")
    distinct = int(of_words.nunique())
    missing = words.n_missing + n_strays
    role: Role = "date" if distinct > 1 or missing else "constant"
    dates = words.spread(of_words, pd.NaT)
    return Reading(name, role, dates, style, missing, distinct, notices=tuple(notices))


def _words(words: Words, name: str) -> Reading:
    """Return a column of words: a category, a text, or names of rows."""
    present = words.present
    weights = words.cells_of_present
    distinct = len(present)
    n = int(weights.sum())
    per_cell = distinct / n
    # Chinese and Japanese write no blanks: two signs are about a word.
    blanks = present.str.count(r"\s+").to_numpy(float)
    signs = present.str.count(_SIGNS_OF_WORDS).to_numpy(float)
    words_per_cell = np.average(blanks + signs / 2, weights=weights) + 1
    length = np.average(present.str.len().to_numpy(float), weights=weights)
    has_long = bool(words_per_cell >= _WORDS_OF_TEXT or length > _LENGTH_OF_TEXT)
    is_long = has_long and per_cell > _REPEATS
    varies = distinct > MAX_INDICATORS
    role: Role = "category"
    if distinct == 1 and not words.n_missing:
        role = "constant"
    elif varies and (is_long or (per_cell > _NO_CATEGORY and words_per_cell >= 2)):
        role = "text"
    elif n >= _FEWEST_ROWS and per_cell >= _IDENTIFIES:
        role = "identifier"
    return Reading(name, role, words.spread(present, None), "", words.n_missing, distinct)


def _left_out(reading: Reading, is_first: bool, n_columns: int) -> Reading:
    """Return the reading, as that of an identifier where numbers only name the rows."""
    if reading.role != "number" or n_columns < 2 or len(reading.values) < _FEWEST_ROWS:
        return reading
    values = reading.values.to_numpy()
    is_whole = not reading.missing and bool((values == np.round(values)).all())
    if not is_whole:
        return reading
    is_unique = reading.distinct == len(values)
    steps = np.diff(values)
    counts_rows = values[0] in (0, 1) and bool((steps == 1).all())
    is_named_so = bool(_ID_NAME.search(reading.name) or _UNNAMED.match(reading.name))
    if is_unique and is_named_so:
        return replace(reading, role="identifier", why="it names each row")
    if counts_rows and is_first and n_columns > 2:
        return replace(reading, role="identifier", why="it counts the rows")
    return reading


def _as_told(reading: Reading, values: pd.Series[Any], told: str | None) -> Reading:
    """Return the reading with the role that the user wants."""
    if told is None:
        return reading
    return _TOLD[told](reading, values)


def _category(reading: Reading, values: pd.Series[Any]) -> Reading:
    text = spelled(values)
    gaps = cells.is_missing(text)
    words = text.mask(gaps).str.strip()
    return Reading(
        reading.name, "category", words, "", int(gaps.sum()), int(words.nunique()), "as told"
    )


def _kept(reading: Reading, values: pd.Series[Any]) -> Reading:
    if reading.is_used:
        return reading
    if reading.role in ("identifier", "constant") and reading.values.dtype.kind == "f":
        return replace(reading, role="number", why="as told")
    if reading.role == "constant" and reading.values.dtype.kind == "M":
        return replace(reading, role="date", why="as told")
    if reading.role in ("lists", "empty"):
        raise DataError(
            wrong("keep", reading.name, f"must hold cells to learn from, but it is {reading.role}")
        )
    return _category(reading, values)


def _number(reading: Reading, values: pd.Series[Any]) -> Reading:
    if reading.values.dtype.kind != "f":
        raise DataError(wrong("number", reading.name, "must hold numbers", "leave it out"))
    return replace(reading, role="number", why="as told")


def _text(reading: Reading, values: pd.Series[Any]) -> Reading:
    text = values.astype("string")
    return Reading(
        reading.name, "text", text, "", int(text.isna().sum()), int(text.nunique()), "as told"
    )


def _dropped(reading: Reading, values: pd.Series[Any]) -> Reading:
    return replace(reading, is_dropped=True, why="as told", notices=())


_TOLD: Mapping[str, Callable[[Reading, Any], Reading]] = {
    "drop": _dropped,
    "keep": _kept,
    "category": _category,
    "text": _text,
    "number": _number,
}
