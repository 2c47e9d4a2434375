"""Columns fitted on the training part, and rows as features.

Legend: N rows, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.column import DATE_PARTS, FAR, Column
from danlu.data.memmap import Array
from danlu.data.tables.roles import Reading

if TYPE_CHECKING:
    import pandas as pd

_RARE = 3  # examples of the training part: a level with fewer is one of the others
_WIDE = 1e18  # spreads beyond this, or below its inverse, have squares that float32 cannot hold
_TURN = 2 * np.pi


def fit_column(reading: Reading, train: Array) -> Column:
    """Return a column's levels, median and scale by the training rows."""
    values = reading.values.iloc[train]
    # The whole column says whether there are gaps, so that new rows may have some.
    has_gaps = reading.missing > 0
    if reading.role == "category":
        return _category(reading.name, values, has_gaps)
    if reading.role == "date":
        return _date(reading, values, has_gaps)
    column = number_column(reading.name, values.to_numpy(np.float64))
    return replace(column, style=reading.style, has_gaps=has_gaps)


def number_column(name: str, numbers: Array) -> Column:
    """Return a column of numbers [N], NaN where one is missing."""
    shift, scale, fill = _scale(numbers[~np.isnan(numbers)])
    return Column(name, kind="number", fill=fill, shift=shift, scale=scale)


def _scale(numbers: Array) -> tuple[float, float, float]:
    """Return shift and scale, 0 and 1 where float32 holds the numbers well, and the median."""
    if not len(numbers):
        return 0.0, 1.0, 0.0
    fill = float(np.median(numbers))
    unit = float(np.abs(numbers).max()) or 1.0
    # In units of the largest, so that squares stay finite.
    mean = float((numbers / unit).mean()) * unit
    spread = float((numbers / unit).std()) * unit
    shift = mean if abs(mean) > FAR * spread > 0 else 0.0
    is_extreme = spread > 0 and not 1 / _WIDE < spread < _WIDE
    return shift, spread if is_extreme else 1.0, fill


def _category(name: str, values: pd.Series[Any], has_gaps: bool) -> Column:
    counts = values.value_counts()
    levels = sorted(str(level) for level, n in counts.items() if n >= _RARE)
    has_rare = bool((counts < _RARE).any())
    if not levels:
        # Nothing is frequent: the levels are all that there is.
        levels, has_rare = sorted(map(str, counts.index)), False
    column = Column(name, tuple(levels), "category", has_other=has_rare, has_gaps=has_gaps)
    if column.is_embedded and not has_rare:
        # A number must stand for levels that are met later.
        return Column(name, tuple(levels), "category", has_other=True, has_gaps=has_gaps)
    return column


def _date(reading: Reading, values: pd.Series[Any], has_gaps: bool) -> Column:
    dates = values.dropna().dt
    varying = {
        "year": dates.year.nunique() > 1,
        "month": dates.month.nunique() > 1,
        "weekday": dates.weekday.nunique() > 1 and dates.day.nunique() > 1,
        "hour": bool(((dates.hour > 0) | (dates.minute > 0)).any()),
    }
    parts = tuple(part for part in DATE_PARTS if varying[part])
    year = float(np.median(dates.year)) if len(dates.year) else 0.0
    return Column(
        reading.name,
        kind="date",
        style=reading.style,
        has_gaps=has_gaps,
        fill=year,
        parts=parts or ("year",),
    )


def write_features(columns: Sequence[Column], values: Sequence[pd.Series[Any]], out: Array) -> None:
    """Write the features of each column's values into out [N, F]."""
    start = 0
    for column, cells in zip(columns, values, strict=True):
        _WRITERS[column.kind](column, cells, out[:, start : start + column.width])
        start += column.width


def _write_numbers(column: Column, values: pd.Series[Any], out: Array) -> None:
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    gaps = np.isnan(numbers)
    filled = np.where(gaps, column.fill, numbers)
    out[:, 0] = (filled - column.shift) / column.scale
    if column.has_gaps:
        out[:, 1] = gaps


def level_numbers(column: Column, values: pd.Series[Any]) -> Array:
    """Return the number of each cell's level [N], −1 where it has none."""
    known = {level: k for k, level in enumerate(column.levels)}
    other = len(known) if column.has_other else -1
    gap = column.n_levels - 1 if column.has_gaps else other
    numbers = values.map(known).to_numpy(np.float64, na_value=np.nan)
    numbers = np.where(np.isnan(numbers), other, numbers)
    return np.where(values.isna().to_numpy(bool), gap, numbers).astype(np.int64)


def _write_levels(column: Column, values: pd.Series[Any], out: Array) -> None:
    numbers = level_numbers(column, values)
    if column.is_embedded:
        out[:, 0] = numbers
    else:
        out[:] = numbers[:, None] == np.arange(column.n_levels)


def _write_dates(column: Column, values: pd.Series[Any], out: Array) -> None:
    dates = values.dt
    gaps = values.isna().to_numpy(bool)
    hour = dates.hour + dates.minute / 60
    # On a circle: December is next to January, and the 31st next to the 1st.
    turns = {
        "month": (dates.month - 1 + (dates.day - 1) / dates.days_in_month) / 12,
        "weekday": dates.weekday / 7,
        "hour": hour / 24,
    }
    position = 0
    for part in column.parts:
        if part == "year":
            year = dates.year.to_numpy(np.float64, na_value=np.nan)
            out[:, position] = np.where(gaps, column.fill, year)
            position += 1
            continue
        angle = _TURN * turns[part].to_numpy(np.float64, na_value=np.nan)
        out[:, position] = np.where(gaps, 0.0, np.sin(angle))
        out[:, position + 1] = np.where(gaps, 0.0, np.cos(angle))
        position += 2
    if column.has_gaps:
        out[:, position] = gaps


_WRITERS = {"number": _write_numbers, "category": _write_levels, "date": _write_dates}


def shown_cells(columns: Sequence[Column], row: Sequence[float]) -> list[str]:
    """Return the features of a row as readers know them: a cell for each column."""
    cells = []
    start = 0
    for column in columns:
        end = start + column.width
        cells.append(_shown(column, row[start:end]))
        start = end
    return cells


def _shown(column: Column, values: Sequence[float]) -> str:
    is_gap = column.has_gaps and not column.is_embedded and values[-1] == 1
    if is_gap:
        return "missing"
    if column.kind == "category":
        names = [*column.levels]
        if column.has_other:
            names.append("other")
        if column.has_gaps:
            names.append("missing")
        if column.is_embedded:
            return names[int(values[0])]
        return next((n for n, v in zip(names, values, strict=False) if v == 1), "unknown")
    number = f"{values[0] * column.scale + column.shift:g}"
    if column.kind == "date":
        return number if "year" in column.parts else ""
    return number
