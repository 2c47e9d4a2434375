"""Data frames: features, targets, and what was decided about each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.column import Column
from danlu.data.memmap import Array, allocate
from danlu.data.parts import sizes_left
from danlu.data.raw import ColumnNote, Encoded, Raw, Rows
from danlu.data.schema import Schema
from danlu.data.tables.features import fit_column, write_features
from danlu.data.tables.roles import OVERRIDES, Overrides, Reading, read_columns, uses_decimal_comma
from danlu.data.tables.rows import encode_rows
from danlu.data.tables.target import Target, check_task, known_target, read_target, unseen_notices
from danlu.errors import DataError, count, some

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 6  # columns in a notice


@dataclass(frozen=True)
class TableOptions:
    """What the user says of a table."""

    target: str | None = None
    task: str | None = None
    missing: str | None = None
    """fill (also without it), drop or refuse."""
    log_target: bool = False
    comma_is_decimal: bool = False
    columns: Overrides = field(default_factory=Overrides)

    @classmethod
    def of(cls, options: Mapping[str, Any], comma_is_decimal: bool = False) -> TableOptions:
        """Return those among the options of `load`."""
        named = {name: tuple(options.get(name) or ()) for name in OVERRIDES}
        return cls(
            options.get("target"),
            options.get("task"),
            options.get("missing"),
            bool(options.get("log_target")),
            comma_is_decimal,
            Overrides(**named),
        )


def from_frame(
    frame: pd.DataFrame,
    name: str,
    options: TableOptions,
    budget: int,
    n_valid: int = 0,
    n_test: int = 0,
) -> Raw:
    """Return features and targets of a data frame whose target is named.

    n_valid, n_test: the last rows are those parts. Raises DataError for all mistakes at once.
    """
    check_task(options.task)
    title = str(options.target)
    options.columns.check(list(frame.columns), title, name)
    is_shown = uses_decimal_comma(frame)
    comma_is_decimal = options.comma_is_decimal or is_shown
    target = read_target(frame[title], options.task, name, comma_is_decimal, is_shown)
    readings = read_columns(frame, title, options.columns, comma_is_decimal)
    used = [reading for reading in readings if reading.is_used]
    _refuse_useless(readings, used, name, title)
    kept = _rows_kept(used, target, options.missing, name)
    y = target.y[kept[target.is_there]]
    _refuse_lost(target, y, name)
    sizes = sizes_left(kept, n_valid, n_test, name)
    values = [reading.values[kept].reset_index(drop=True) for reading in used]
    used = [
        replace(reading, values=own, missing=int(own.isna().sum()))
        for reading, own in zip(used, values, strict=True)
    ]
    identifiers = tuple(r.name for r in readings if r.role == "identifier" and not r.is_used)

    def encode(train: Array) -> Encoded:
        columns = tuple(fit_column(reading, train) for reading in used)
        width = sum(column.width for column in columns)
        x = allocate((len(y), width), np.float32, budget)
        write_features(columns, values, x)
        schema = _schema(target, options, title, columns, width)
        return Encoded(x, y, replace(schema, identifiers=identifiers))

    return Raw(
        np.zeros((len(y), 1), np.float32),
        y,
        _schema(target, options, title, (), 1),
        official_test=sizes[1],
        official_valid=sizes[0],
        missing={r.name: r.missing for r in readings if r.is_used and r.missing},
        encode=encode,
        notices=_notices(readings, target, kept, options),
        columns=tuple(map(note_of, readings)),
        origins=Rows(np.flatnonzero(kept), _rows_of_parts(len(kept), n_valid, n_test)),
    )


def from_known_frame(frame: pd.DataFrame, name: str, schema: Schema, budget: int) -> Raw:
    """Return rows as a trained run reads them, with their targets."""
    title = str(schema.target)
    if title not in frame.columns:
        raise DataError(
            f"{name} lacks the target {title!r}, so it cannot be scored; use danlu predict"
        )
    x, notices = encode_rows(frame, schema.columns, name, budget)
    target = known_target(frame[title], schema.classes, schema.target_style)
    kept = target.is_there
    if not kept.any():
        raise DataError(f"no row of {name} has a value in the target {title!r}; fill it in")
    return Raw(
        x[kept],
        target.y,
        schema,
        notices=(
            *notices,
            *target.notices,
            *unseen_notices(target, frame[title], name),
            *_left_sentences(kept, title),
        ),
    )


def _rows_of_parts(n: int, n_valid: int, n_test: int) -> dict[str, int]:
    """Return how many rows each part's file has; one entry where all lie in one."""
    sizes = {"train": n - n_valid - n_test, "valid": n_valid, "test": n_test}
    return {part: size for part, size in sizes.items() if size}


def _schema(
    target: Target, options: TableOptions, title: str, columns: tuple[Column, ...], width: int
) -> Schema:
    return Schema(
        "classification" if target.classes else "regression",
        (width,),
        target.classes,
        columns=columns,
        target=title,
        target_style=target.style,
        log_target=options.log_target,
    )


def _refuse_useless(
    readings: Sequence[Reading], used: Sequence[Reading], name: str, target: str
) -> None:
    if used:
        return
    if not readings:
        raise DataError(
            f"{name} has no column beside the target {target!r}; it needs at least one feature"
        )
    texts = [reading.name for reading in readings if reading.role == "text"]
    if texts:
        raise DataError(
            f"every column of {name} beside the target is text or of no use; "
            f"try --text {texts[0]}, or keep some as categories with --category"
        )
    roles = some((f"{reading.name} ({reading.role})" for reading in readings), _SHOWN)
    raise DataError(
        f"{name} has no column to learn from beside the target {target!r}: {roles}; "
        "use some all the same with --keep"
    )


def _rows_kept(used: Sequence[Reading], target: Target, missing: str | None, name: str) -> Array:
    """Return which rows are learnt from: those with a target, and with `drop` without a gap."""
    kept = target.is_there.copy()
    gaps = [reading for reading in used if reading.missing]
    if missing == "refuse":
        _refuse_gaps(gaps, target, name)
    if missing == "drop":
        for reading in gaps:
            kept &= reading.values.notna().to_numpy(bool)
        if not kept.any():
            raise DataError(
                f"every row of {name} has a missing cell; leave out the columns that lack most "
                "with --drop, or use --missing fill"
            )
    return kept


def _refuse_gaps(gaps: Sequence[Reading], target: Target, name: str) -> None:
    mistakes = []
    for reading in gaps:
        first = int(np.flatnonzero(reading.values.isna())[0]) + 1
        mistakes.append(
            f"column {reading.name!r} of {name} lacks {count(reading.missing, 'cell')}, the first "
            f"in row {first}; fill them, or use --missing fill"
        )
    absent = int((~target.is_there).sum())
    if absent:
        mistakes.append(f"the target lacks {count(absent, 'cell')}; fill them")
    if mistakes:
        raise DataError(*mistakes)


def _refuse_lost(target: Target, y: Array, name: str) -> None:
    """Raise DataError for classes that would vanish with their incomplete rows."""
    if not target.classes:
        return
    counts = np.bincount(y, minlength=len(target.classes))
    lost = [repr(target.classes[k]) for k in np.flatnonzero(counts == 0)]
    if lost:
        raise DataError(
            f"no row of the class {some(lost)} in {name} is whole; fill its missing cells, or use "
            "--missing fill"
        )


def _notices(
    readings: Sequence[Reading], target: Target, kept: Array, options: TableOptions
) -> tuple[str, ...]:
    """Return what was decided, a line each."""
    notices = [*target.notices]
    for reading in readings:
        if reading.is_used:
            notices += reading.notices
    by_role: dict[str, list[str]] = {}
    for reading in readings:
        if not reading.is_used and not reading.is_dropped:
            by_role.setdefault(reading.role, []).append(reading.name or "(no name)")
    for role, names in by_role.items():
        how = "" if role in ("lists", "empty") else "; --keep takes it in"
        if role == "text":
            how = f"; --text {names[0]} learns from it alone"
        notices.append(f"left out: {some(names, _SHOWN)} ({_LEFT_OUT[role]}){how}")
    gaps = {
        reading.name: reading.missing for reading in readings if reading.is_used and reading.missing
    }
    if gaps and options.missing != "drop":
        listed = some((f"{n:,} in {title}" for title, n in gaps.items()), _SHOWN)
        notices.append(f"missing cells filled: {listed}; --missing drop leaves out their rows")
    elif gaps:
        notices.append(
            f"{int(kept.sum()):,} of {len(kept):,} rows kept, those without missing cells"
        )
    if options.missing != "drop":
        notices += _left_sentences(target.is_there, str(options.target))
    return tuple(notices)


def _left_sentences(kept: Array, target: str) -> list[str]:
    absent = int((~kept).sum())
    if not absent:
        return []
    return [f"left out: {count(absent, 'row')} without a value in the target {target}"]


_LEFT_OUT = {
    "identifier": "names rows",
    "constant": "the same in every row",
    "empty": "no value in any row",
    "text": "free text",
    "lists": "lists and the like",
}


def note_of(reading: Reading) -> ColumnNote:
    """Return what a column was taken for, for readers."""
    present = reading.values.dropna()
    example = ""
    if len(present):
        cell = present.iloc[0]
        example = f"{cell:g}" if reading.values.dtype.kind == "f" else str(cell)
    return ColumnNote(
        reading.name, reading.role, reading.is_used, reading.distinct, reading.missing, example
    )
