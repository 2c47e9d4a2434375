"""Cells as people write them: missing marks, numbers, dates.

A style says how all cells of a column are written. It is fitted once and kept with the run, so that
`1,234` means the same in new rows as in the training data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[np.float64]  # NaN where there is none

# In lower case. A word such as "unknown" is a level of a category, not a mark.
MISSING_MARKS = frozenset(
    {"", "?", "-", "--", ".", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "nat", "<na>"}
    | {"(null)", "[null]", "\\n", "#null!", "#value!", "#ref!", "#div/0!", "#num!", "#name?"}
)
_AFFIXES = r"(?:[$€£¥₹元%]|USD|EUR|GBP|CNY|RMB)"


@dataclass(frozen=True)
class NumberStyle:
    """How numbers are grouped and where their fraction begins; pattern: what a cell looks like."""

    pattern: str
    thousands: str
    decimal: str


_COMMA_GROUPS = r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?(?:[eE][+-]?\d+)?"
_DOT_GROUPS = r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d*)?"
_PLAIN = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PLAIN_COMMA = r"[+-]?(?:\d+,?\d*|,\d+)(?:[eE][+-]?\d+)?"
# By an example, which is also what readers see. Beside groups, numbers without any may stand.
NUMBER_STYLES = {
    "1234.5": NumberStyle(_PLAIN, "", "."),
    "1,234.5": NumberStyle(f"{_COMMA_GROUPS}|{_PLAIN}", ",", "."),
    "1234,5": NumberStyle(f"{_DOT_GROUPS}|{_PLAIN_COMMA}", ".", ","),
    "1 234,5": NumberStyle(rf"[+-]?\d{{1,3}}(?: \d{{3}})*(?:[,.]\d*)?|{_PLAIN_COMMA}", " ", ","),
    "1'234.5": NumberStyle(rf"[+-]?\d{{1,3}}(?:'\d{{3}})*(?:\.\d*)?|{_PLAIN}", "'", "."),
}
PLAIN = "1234.5"
DECIMAL_COMMA = "1234,5"

_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_DAYS = (
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m-%d-%Y",
    "%d-%m-%Y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%d.%m.%y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d %Y",
    "%Y年%m月%d日",
)
_MONTHS = ("%Y/%m", "%b %Y", "%B %Y", "%b-%y", "%b-%Y", "%Y年%m月")
ISO = "ISO8601"
COMPACT = "%Y%m%d"
DATE_STYLES = (
    ISO,
    *(day + time for day in _DAYS for time in _TIMES),
    *_MONTHS,
)
# Which of day and month comes first is open in these, unless a day is beyond 12.
OTHER_ORDER = {
    style: style.replace("%m", "#").replace("%d", "%m").replace("#", "%d")
    for style in DATE_STYLES
    if style.startswith(("%m/%d", "%m-%d"))
}
# Two groups of digits, or a name and digits: Jan 2024.
_LIKE_A_DATE = r"^\D{0,12}\d{1,4}\D{1,12}\d|[^\W\d]{3,}\W{0,2}\d"
STRAYS = 0.05  # of a column of numbers: so many cells may be something else
_MOST_STRAYS = 0.5  # of a sample
_LAST_TWO_DIGIT_YEAR = 2049  # 50 is 1950
_REPEATED = 10_000  # cells by which is told whether most of a column repeat others
_SAMPLE = 100  # cells by which a style is tried before the whole column is


# Blanks, minus signs and apostrophes that are typed by word processors.
_PLAIN_SIGNS = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2212": "-", "’": "'"})


_OF_PLAIN_NUMBERS = frozenset("0123456789+-.eE \t\n")
_CODE = re.compile(r"^\s*0\d", re.MULTILINE)


def is_missing(cells: pd.Series[Any]) -> NDArray[np.bool_]:
    """Return which cells of text are missing: empty, or one of the marks for it."""
    if not len(cells):
        return np.zeros(0, bool)
    stripped = cells.str.strip().str.lower()
    return (cells.isna() | stripped.isin(MISSING_MARKS)).to_numpy(bool)


def to_numbers(cells: pd.Series[Any], style: str) -> Numbers:
    """Return cells of text as numbers of a style; currency and percent signs are left out."""
    import pandas as pd

    if len(cells) > _REPEATED and cells.iloc[:_REPEATED].nunique() < _REPEATED / 2:
        # Few are different: each is read once.
        places, distinct = pd.factorize(cells)
        found = to_numbers(pd.Series(distinct, dtype=cells.dtype), style)
        return np.append(found, np.nan)[places]  # −1 stands for a gap
    plain = cells.str.translate(_PLAIN_SIGNS).str.strip()
    if style == PLAIN:
        numbers = pd.to_numeric(plain, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        if not np.isnan(numbers).any():
            return numbers
    plain = _without_affixes(plain)
    of = NUMBER_STYLES[style]
    fits = plain.str.fullmatch(of.pattern, na=False).to_numpy(bool)
    if of.thousands:
        plain = plain.str.replace(of.thousands, "", regex=False)
    if of.decimal != ".":
        plain = plain.str.replace(of.decimal, ".", regex=False)
    numbers = pd.to_numeric(plain, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return np.where(fits | np.isinf(numbers), numbers, np.nan)


def _without_affixes(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Return cells without signs of currency or percent; (12) is what bookkeepers write for −12."""
    cells = cells.str.replace(r"^\((.*)\)$", r"-\1", regex=True)
    cells = cells.str.replace(rf"^([+-]?)\s*{_AFFIXES}\s*", r"\1", regex=True)
    return cells.str.replace(rf"\s*{_AFFIXES}$", "", regex=True)


def plain_numbers(text: pd.Series[Any]) -> Numbers | None:
    """Return cells of text as numbers where every one is a plain number, none missing, no code."""
    if text.isna().any():
        return None
    written = text.tolist()
    joined = "\n".join(written)
    # Python's own reading knows more numbers than people write: 1_000, nan.
    if not _OF_PLAIN_NUMBERS.issuperset(joined) or _CODE.search(joined):
        return None
    try:
        return np.array(list(map(float, written)))
    except ValueError:
        return None


def number_style(
    cells: pd.Series[Any], comma_is_decimal: bool = False, dots_group: bool = False
) -> tuple[str, Numbers]:
    """Return the style that reads most cells as numbers, and those numbers.

    comma_is_decimal: what is meant where `1,234` alone leaves it open. dots_group: whether 1.234
    may be 1234, as beside columns with decimal commas.
    """
    best = PLAIN
    found = to_numbers(cells, PLAIN)
    sample = cells.iloc[:_SAMPLE]
    has_digits = bool(sample.str.contains(r"\d", regex=True).any())
    if not np.isnan(found).any() or not has_digits:
        if dots_group and _are_dot_groups(cells):
            return DECIMAL_COMMA, to_numbers(cells, DECIMAL_COMMA)
        return best, found
    order = [style for style in NUMBER_STYLES if style != PLAIN]
    if comma_is_decimal:
        order.sort(key=lambda style: style != DECIMAL_COMMA)
    for style in order:
        if np.isnan(found).mean() <= STRAYS:
            break  # another style would read the mistakes among these
        # Most columns of words are told by a few of them.
        if np.isnan(to_numbers(sample, style)).mean() > _MOST_STRAYS:
            continue
        numbers = to_numbers(cells, style)
        if np.isnan(numbers).sum() < np.isnan(found).sum():
            best, found = style, numbers
    return best, found


def _are_dot_groups(cells: pd.Series[Any]) -> bool:
    """Whether every dot is one between thousands: 12.500, beside 950."""
    plain = cells.str.strip()
    with_dot = plain[plain.str.contains(".", regex=False, na=False).astype(bool)]
    return len(with_dot) > 0 and bool(with_dot.str.fullmatch(r"[+-]?[1-9]\d{0,2}(\.\d{3})+").all())


def has_decimal_comma(cells: pd.Series[Any]) -> bool:
    """Whether the cells can only be numbers with a decimal comma, such as 45,06."""
    with_comma = cells[cells.str.contains(",", regex=False, na=False).astype(bool)]
    if with_comma.empty:
        return False
    with_comma = _without_affixes(with_comma.str.strip())
    fits = with_comma.str.fullmatch(NUMBER_STYLES[DECIMAL_COMMA].pattern, na=False)
    grouped = with_comma.str.fullmatch(_COMMA_GROUPS, na=False)
    # A list such as "3,5" among thousands does not outvote them.
    return bool(fits.all()) and float(grouped.mean()) < _MOST_STRAYS


def to_dates(cells: pd.Series[Any], style: str) -> pd.Series[Any]:
    """Return cells of text as dates without a time zone, NaT where there is none."""
    import pandas as pd

    dates = pd.to_datetime(cells.str.strip(), format=style, errors="coerce", utc=style == ISO)
    if style == ISO:
        return dates.dt.tz_localize(None)
    if "%y" in style:
        century = pd.DateOffset(years=100)
        dates = dates.where(~(dates.dt.year > _LAST_TWO_DIGIT_YEAR), dates - century)
    return dates


def date_style(cells: pd.Series[Any], name: str) -> str | None:
    """Return the style in which all but a few strays are dates; None where there is none.

    Whole numbers such as 20240131 are dates only where the column's name says so.
    """
    sample = cells.iloc[:_SAMPLE]
    digits_only = bool(sample.str.fullmatch(r"\s*\d+\s*").all())
    styles: tuple[str, ...] = DATE_STYLES
    if digits_only:
        says_so = any(word in name.lower() for word in ("date", "day", "日期"))
        styles = (COMPACT,) if says_so and bool((sample.str.strip().str.len() == 8).all()) else ()
    elif (
        sample.str.contains(_LIKE_A_DATE, regex=True).mean() < 1 - STRAYS
        or sample.str.strip().str.fullmatch(_PLAIN).mean() > _MOST_STRAYS
    ):
        styles = ()
    # Most styles fall at the first cells.
    tries = (sample.iloc[:3], sample, cells)
    for style in styles:
        if all(to_dates(tried, style).notna().mean() > _fewest_dates(tried) for tried in tries):
            return style
    return None


def _fewest_dates(tried: pd.Series[Any]) -> float:
    """Return the share of dates that cells of a date column have at least."""
    return 0.5 if len(tried) <= 3 else 1 - STRAYS
