"""New rows, read by the columns that a network was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.column import Column
from danlu.data.memmap import Array, allocate
from danlu.data.tables import cells
from danlu.data.tables.features import level_numbers, write_features
from danlu.data.tables.words import spelled, text_cells
from danlu.errors import DataError, count, nearest, some

if TYPE_CHECKING:
    import pandas as pd


def frame_of(rows: Any) -> pd.DataFrame | None:
    """Return a data frame, a dictionary of cells or columns, or a list of dictionaries as a frame.

    None for anything else, such as arrays.
    """
    import pandas as pd

    if isinstance(rows, pd.DataFrame):
        return rows.set_axis([str(name) for name in rows.columns], axis=1).reset_index(drop=True)
    if isinstance(rows, pd.Series):
        return frame_of(rows.to_dict())
    if isinstance(rows, Mapping):
        has_columns = any(isinstance(value, (list, tuple, np.ndarray)) for value in rows.values())
        return frame_of(pd.DataFrame(dict(rows) if has_columns else [dict(rows)]))
    is_list = isinstance(rows, (list, tuple)) and len(rows) > 0
    if is_list and all(isinstance(row, Mapping) for row in rows):
        return frame_of(pd.DataFrame(list(rows)))
    return None


def encode_rows(
    frame: pd.DataFrame, columns: Sequence[Column], name: str, budget: int
) -> tuple[Array, list[str]]:
    """Return the features [N, F] of rows, and what was decided on the way.

    Columns are found by name, in whatever order; others are left alone. name: of the source.
    Raises DataError where a column is not there.
    """
    _refuse_absent(frame, columns, name)
    values = []
    notices = []
    for column in columns:
        read, unread = _read(frame[column.name], column)
        values.append(read)
        notices += _notices(column, read, unread)
    width = sum(column.width for column in columns)
    out = allocate((len(frame), width), np.float32, budget)
    write_features(columns, values, out)
    return out, notices


def _refuse_absent(frame: pd.DataFrame, columns: Sequence[Column], name: str) -> None:
    known = [str(title) for title in frame.columns]
    absent = []
    for column in columns:
        if column.name not in known:
            near = nearest(column.name, known)
            absent.append(
                f"{column.name!r} (did you mean {near!r}?)" if near else f"{column.name!r}"
            )
    if absent:
        raise DataError(
            f"{name} lacks the column {some(absent, 8)}, which the network was trained on"
        )


def _read(values: pd.Series[Any], column: Column) -> tuple[pd.Series[Any], int]:
    """Return cells as `column` has them, and how many could not be read."""
    import pandas as pd

    if column.kind == "category":
        words = spelled(values)
        return words.mask(cells.is_missing(words)).str.strip(), 0
    text = text_cells(values)
    if text is None and column.kind == "date":
        dates = pd.to_datetime(values, utc=True, errors="coerce").dt.tz_localize(None)
        return dates, int((dates.isna() & values.notna()).sum())
    if text is None:
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        return _finite(numbers, values.notna().to_numpy(bool))
    is_there = ~cells.is_missing(text)
    if column.kind == "date":
        dates = cells.to_dates(text, column.style or cells.ISO)
        return dates, int((dates.isna().to_numpy(bool) & is_there).sum())
    return _finite(cells.to_numbers(text, column.style or cells.PLAIN), is_there)


def _finite(numbers: Array, is_there: Array) -> tuple[pd.Series[Any], int]:
    import pandas as pd

    finite = np.where(np.isfinite(numbers), numbers, np.nan)
    return pd.Series(finite), int((np.isnan(finite) & is_there).sum())


def _notices(column: Column, values: pd.Series[Any], unread: int) -> list[str]:
    """Return in words what stands for cells that training had nothing like."""
    notices = []
    missing = int(values.isna().sum())
    if unread:
        what = "number" if column.kind == "number" else "date"
        notices.append(
            f"{column.name}: {count(unread, 'cell')} of no {what} as the run knows it, "
            "taken as missing"
        )
    elif missing and not column.has_gaps and column.kind != "category":
        notices.append(
            f"{column.name}: {count(missing, 'missing cell')} filled, as training had none"
        )
    if column.kind == "category" and not column.has_other:
        words = values.dropna()
        is_new = level_numbers(column, words) < 0
        unknown = words[is_new]
        if len(unknown):
            examples = some((repr(word) for word in dict.fromkeys(unknown.tolist())), 3)
            notices.append(
                f"{column.name}: {count(len(unknown), 'cell')} with {examples}, unknown to the run"
            )
    return notices


def encode_numbers(x: Any, columns: Sequence[Column]) -> Any:
    """Return an array of numbers [N, F] as the run keeps them: without what float32 would lose.

    Of a table with more than numbers an array holds features, which stay as they are.
    """
    are_plain = all(column.shift == 0 and column.scale == 1 for column in columns)
    are_numbers = all(column.features == [column.name] for column in columns)
    numbers = np.asarray(x)
    if are_plain or not are_numbers or numbers.dtype.kind not in "iuf":
        return x
    shift = np.array([column.shift for column in columns])
    scale = np.array([column.scale for column in columns])
    return ((numbers - shift) / scale).astype(np.float32)


def texts_of(frame: pd.DataFrame, column: str | None, name: str) -> list[str]:
    """Return the texts of a table: in the column that the run was trained on, or the only one."""
    known = [str(title) for title in frame.columns]
    if column not in known:
        if len(known) != 1:
            raise DataError(
                f"{name} lacks the column {column!r} of texts, which the network was trained on; "
                f"its columns are {some(known, 8)}"
            )
        (column,) = known
    return [str(text) for text in frame[column].astype("string").fillna("")]
