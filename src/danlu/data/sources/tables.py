"""Tables: CSV, TSV, Parquet and data frames, with a named target column."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.memmap import Array, allocate
from danlu.data.raw import Raw
from danlu.data.schema import Column, Schema
from danlu.data.sources import text as texts
from danlu.data.sources.columns import LABELS_OF_TEXT, TARGETS, TEXT, first_named
from danlu.data.sources.options import refuse_unused
from danlu.errors import DataError, nearest, reason_of, some
from danlu.host import csv_cells_of

if TYPE_CHECKING:
    import pandas as pd

MAX_LEVELS = 50  # a text column with more distinct values is no category
MAX_CLASSES = 20  # a column of more distinct whole numbers is a regression target
_LARGEST = float(np.finfo(np.float32).max)


def read(path: Path, encoding: str | None = None, as_text: bool = False) -> pd.DataFrame:
    """The file as a data frame; refuses duplicate headers and ragged or empty files. as_text: cells as they are written."""
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        return parse(
            texts.read(path, encoding),
            path.name,
            "\t" if path.suffix.lower() == ".tsv" else ",",
            as_text,
        )
    except (OSError, ValueError) as e:
        raise DataError(f"{path.name} cannot be read: {reason_of(e)}") from e


def is_text(frame: pd.DataFrame, target: str | None, task: str | None) -> bool:
    """Whether a table holds texts to classify: one column beside the target, too varied for a category."""
    import pandas as pd

    known = [str(c) for c in frame.columns]
    usual = target or first_named(known, LABELS_OF_TEXT)
    if task not in (None, "classification") or len(known) != 2 or usual not in known:
        return False
    other = next(c for c in known if c != usual)
    values = frame[other].dropna()
    if not pd.api.types.is_string_dtype(values) or _numbers(values).isna().mean() <= 0.5:
        return False
    return other.lower() in TEXT or bool(values.nunique() > min(MAX_LEVELS, len(values) / 2))


def parse(text: str, name: str, separator: str = ",", as_text: bool = False) -> pd.DataFrame:
    """CSV text with a header line as a data frame."""
    import pandas as pd

    with csv_cells_of(len(text) + 1):
        _check_cells(text, name, separator)
    try:
        kept: Any = {"dtype": str, "keep_default_na": False, "na_values": [""]} if as_text else {}
        frame: pd.DataFrame = pd.read_csv(
            io.StringIO(text), sep=separator, skipinitialspace=True, index_col=False, **kept
        )
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as e:
        raise DataError(f"{name} is no table: {reason_of(e)}") from e
    if frame.empty:
        raise DataError(f"{name} has no rows; a table needs a header line and one row per example")
    return frame


def _check_cells(text: str, name: str, separator: str) -> None:
    """Raise DataError for headers that come twice, and rows with more or fewer cells than the header."""
    header = next(csv.reader(io.StringIO(text), delimiter=separator), [])
    twice = [repr(h) for h, n in Counter(h.strip() for h in header).items() if n > 1]
    if twice:
        raise DataError(f"{name} has the column {some(twice)} more than once; rename one")
    rows = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    for k, row in enumerate(rows, 1):
        if row and len(row) != len(header):
            raise DataError(
                f"line {k} of {name} has {len(row)} cells, but its header has {len(header)}; "
                "correct that line"
            )


def from_frame(
    frame: pd.DataFrame,
    name: str,
    *,
    target: str | None,
    task: str | None,
    missing: str | None,
    budget: int,
    **others: Any,
) -> Raw:
    """Features and target of a data frame. All mistakes in its cells are reported together.

    missing: "drop" to leave out rows with missing cells. others: options that mean nothing to a table.
    """
    refuse_unused(others, ("encoding",), "a table")
    if frame.empty:
        raise DataError(f"{name} has no rows")
    target = _target(frame, name, target)
    frame = frame.reset_index(
        drop=True
    )  # the index counts rows as the file does, whichever are left out
    gaps = {str(c): int(n) for c, n in frame.isna().sum().items() if n} if missing == "drop" else {}
    whole = _complete(frame, name, target) if gaps else frame
    inputs = whole.drop(columns=target)
    if inputs.shape[1] == 0:
        raise DataError(
            f"{name} has no column beside the target {target!r}; it needs at least one feature"
        )
    mistakes: list[str] = []
    columns = tuple(c for c in (_column(inputs[n], name, mistakes) for n in inputs) if c)
    known = frame[target].dropna() if gaps else frame[target]  # all of them say what the task is
    y, classes = _labels(known, name, task, mistakes)
    if gaps and not mistakes:
        y = y[known.index.isin(whole.index)]
        lost = [c for k, c in enumerate(classes) if k not in y]
        mistakes += [lost_classes(lost, name)] if lost else []
    if mistakes:
        raise DataError(*mistakes)
    width = sum(c.width for c in columns)
    x = allocate((len(whole), width), np.float32, budget)
    encode(inputs, columns, name, x)
    kind: Any = "classification" if classes else "regression"
    return Raw(x, y, Schema(kind, (width,), classes, columns=columns, target=target), missing=gaps)


def _complete(frame: pd.DataFrame, name: str, target: str) -> pd.DataFrame:
    """The rows without a missing cell, under their old numbers."""
    void = [c for c in frame.columns if frame[c].isna().all()]
    mistakes = [_void(name, str(c), c == target) for c in void]
    whole = frame.dropna()
    if whole.empty:
        mistakes = mistakes or [no_whole_row(name)]
    if mistakes:
        raise DataError(*mistakes)
    return whole


def lost_classes(lost: Sequence[Any], name: str) -> str:
    """The mistake of classes that would vanish with their incomplete rows."""
    return f"no row of the class {some(map(repr, lost))} in {name} is whole; fill its missing cells"


def no_whole_row(name: str) -> str:
    """The mistake of a table with a gap in every row."""
    return (
        f"every row of {name} has a missing cell; fill some, or remove the columns that lack most"
    )


def _void(name: str, title: str, is_target: bool) -> str:
    return f"column {title!r} of {name} has no value in any row; {'fill in the target' if is_target else 'remove it'}"


def _target(frame: pd.DataFrame, name: str, target: str | None) -> str:
    known = [str(c) for c in frame.columns]
    if target is None:
        usual = [c for c in known if c.lower() in TARGETS]
        pairs = ", or --task pairs if both are text" if len(known) == 2 else ""
        if len(usual) != 1:
            raise DataError(
                f"{name} has the columns {some(known, 8)}, but no target is named; try --target {known[-1]}{pairs}"
            )
        return usual[0]
    if target not in known:
        near = nearest(target, known)
        hint = f"did you mean {near!r}?" if near else f"its columns are {some(known, 8)}"
        raise DataError(f"`target` is {target!r}, but {name} has no such column; {hint}")
    return target


def _column(values: pd.Series[Any], name: str, mistakes: list[str]) -> Column | None:
    """What the column is; adds to the mistakes and gives None when it cannot be used."""
    import pandas as pd

    title = str(values.name)
    if pd.api.types.is_datetime64_any_dtype(values) or isinstance(
        values.iloc[0], (list, dict, np.ndarray)
    ):
        what = "dates" if pd.api.types.is_datetime64_any_dtype(values) else "lists"
        mistakes.append(
            f"column {title!r} of {name} holds {what}, but a feature is a number or a category; turn it into columns of numbers"
        )
        return None
    missing = values.isna()
    if missing.all():
        mistakes.append(_void(name, title, False))
        return None
    before = len(mistakes)
    if missing.any():
        cells = "it" if missing.sum() == 1 else f"the {missing.sum():,} such cells"
        mistakes.append(
            f"{_where(name, title, missing)} is missing or NaN; fill {cells}, or use --missing drop"
        )
        values = values[~missing]
    numbers = _numbers(values)
    lost = numbers.isna()
    if not lost.any():
        endless = ~(numbers.abs() <= _LARGEST)
        if endless.any():
            mistakes.append(
                f"{_where(name, title, endless)} is infinite or beyond ±{_LARGEST:.1e}; replace or rescale it"
            )
        return Column(title) if len(mistakes) == before else None
    levels = sorted({str(v) for v in values})
    if lost.mean() < 0.5:
        bad = str(values[lost].iloc[0])
        mistakes.append(
            f"{_where(name, title, lost)} is {bad!r}, but the column holds numbers; correct it"
        )
    elif len(levels) > MAX_LEVELS:
        mistakes.append(
            f"column {title!r} of {name} is text with {len(levels)} distinct values, but a category has at most "
            f"{MAX_LEVELS}; remove the column, group its values, or try --task text"
        )
    return Column(title, tuple(levels)) if len(mistakes) == before else None


def _numbers(values: pd.Series[Any]) -> pd.Series[Any]:
    """The values as float64, NaN where they are none."""
    import pandas as pd

    try:
        return pd.to_numeric(values, errors="coerce").astype(np.float64)
    except (OverflowError, TypeError, ValueError):  # integers of hundreds of digits
        return pd.to_numeric(values.astype(str) + "e0", errors="coerce").astype(np.float64)


def _where(name: str, title: str, mask: pd.Series[Any]) -> str:
    return f"row {int(mask.index[mask.to_numpy()][0]) + 1} of column {title!r} in {name}"


def _labels(
    values: pd.Series[Any], name: str, task: str | None, mistakes: list[str]
) -> tuple[Array, tuple[str, ...]]:
    """Class numbers with class names, or numbers with none."""

    title = str(values.name)
    if values.isna().all():
        mistakes.append(_void(name, title, True))
        return np.zeros(0), ()
    if values.isna().any():
        mistakes.append(
            f"{_where(name, title, values.isna())} (the target) is missing; fill it, or use --missing drop"
        )
        return np.zeros(0), ()
    numbers = _numbers(values)
    is_number = bool(numbers.notna().all()) and values.dtype != bool
    if not is_number and task == "regression":
        bad = values[numbers.isna()].iloc[0] if numbers.isna().any() else values.iloc[0]
        mistakes.append(
            f"the target {title!r} holds {bad!r}, but regression needs numbers; try --task classification"
        )
        return np.zeros(0), ()
    size = numbers.abs()
    if is_number and not (size <= _LARGEST).all():
        where = _where(name, title, ~(size <= _LARGEST))
        mistakes.append(f"{where} (the target) is infinite or beyond ±{_LARGEST:.1e}; rescale it")
        return np.zeros(0), ()
    whole = is_number and bool((size < 2**53).all()) and bool((numbers == numbers.round()).all())
    few = whole and numbers.nunique() <= MAX_CLASSES
    if task == "classification" or (task is None and (not is_number or few)):
        shown = numbers.astype(np.int64) if whole else values.astype(str)
        distinct, index = np.unique(shown.to_numpy(), return_inverse=True)
        return index.astype(np.int64), tuple(str(v) for v in distinct)
    return numbers.to_numpy(np.float64), ()


def encode(inputs: pd.DataFrame, columns: Sequence[Column], name: str, out: Array) -> None:
    """Write the features of each row into out [N, F]; used in training and, with the run's columns, at prediction."""

    absent = [repr(c.name) for c in columns if c.name not in inputs.columns]
    if absent:
        raise DataError(f"{name} lacks the column {some(absent)}, which the network was trained on")
    mistakes, at = [], 0
    for c in columns:
        values = inputs[c.name]
        if values.isna().any():
            mistakes.append(f"{_where(name, c.name, values.isna())} is missing; fill it")
        elif c.levels:
            text = values.astype(str)
            new = ~text.isin(c.levels)
            if new.any():
                mistakes.append(
                    f"{_where(name, c.name, new)} is {text[new].iloc[0]!r}, but must be one of {some(c.levels, 6)}"
                )
            out[:, at : at + c.width] = text.to_numpy()[:, None] == np.array(c.levels, dtype=object)
        else:
            numbers = _numbers(values)
            bad = ~(numbers.abs() <= _LARGEST)
            if bad.any():
                mistakes.append(
                    f"{_where(name, c.name, bad)} is '{values[bad].iloc[0]}', but must be a finite number"
                )
            out[:, at] = numbers
        at += c.width
    if mistakes:
        raise DataError(*mistakes)
