"""Tables from any kind of file or from memory: of numbers and categories, of texts, or of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.parts import WHOLE, Sizes
from danlu.data.raw import Encoded, Raw
from danlu.data.reading_memory import check_texts_fit, check_width
from danlu.data.sources import columns, formats, text
from danlu.data.sources.delimited import with_single_names
from danlu.data.sources.gaps import cells_of, present
from danlu.data.sources.options import refuse_unused
from danlu.data.tables.roles import (
    OVERRIDES,
    Overrides,
    Reading,
    read_columns,
    uses_decimal_comma,
)
from danlu.data.tables.table import TableOptions, from_known_frame
from danlu.data.tables.table import from_frame as from_table
from danlu.data.tables.target import read_target
from danlu.errors import DataError, asked_as, count, nearest, some, wrong

if TYPE_CHECKING:
    import pandas as pd

_OF_TABLES = ("target", "task", "missing", "log_target", *OVERRIDES)
_OF_TEXT = (*text.OPTIONS, "target", "task", "drop", "text", "keep")
_PLAIN_TARGETS = ("target", "label", "labels")  # names that leave no doubt


def from_frame(
    frame: pd.DataFrame,
    name: str,
    options: Mapping[str, Any],
    sizes: Sizes = WHOLE,
    comma_is_decimal: bool = False,
) -> Raw:
    """Return the examples of a table, each row one.

    A column of free text is what is learnt from where it is the only one to learn from, or named
    with `text`. Raises DataError for what would be a guess.
    """
    frame, renamed = with_single_names(frame.reset_index(drop=True))
    if frame.empty:
        raise DataError(f"{name} has no rows")
    check_width(frame.shape[1], name)
    comma_is_decimal = comma_is_decimal or uses_decimal_comma(frame)
    try:
        raw = _read(frame, name, options, sizes, comma_is_decimal)
    except UnicodeEncodeError as e:
        half = ord(e.object[e.start])
        raise DataError(f"{name} holds U+{half:04X}, half of a surrogate pair; correct it") from e
    return replace(raw, notices=(*renamed, *raw.notices))


def _read(
    frame: pd.DataFrame,
    name: str,
    options: Mapping[str, Any],
    sizes: Sizes,
    comma_is_decimal: bool,
) -> Raw:
    like = options.get("like")
    if like is not None and not like.is_text:
        return from_known_frame(frame, name, like, options["budget"])
    if asks_pairs(options) or options.get("task") == "pairs":
        return _pairs(frame, name, options, sizes)
    known = list(frame.columns)
    named = _named_pair(known)
    is_free = options.get("task") is None and like is None and options.get("target") is None
    if is_free and named and _hold_words(frame, named):
        raw = _pairs(frame, name, options, sizes)
        told = f"{named[0]} and {named[1]} are read as pairs of texts; --target reads a table"
        return replace(raw, notices=(told, *raw.notices))
    overrides = Overrides(**{role: tuple(options.get(role) or ()) for role in OVERRIDES})
    target = find_target(frame, name, options)
    overrides.check(known, target, name)
    is_text = options.get("task") == "text" or like is not None or overrides.text
    if target is None or is_text or len(known) == 2:
        # Roles say which column is the text, and whether there is a label at all.
        readings = read_columns(frame, target, overrides, comma_is_decimal)
        found = _texts(frame, name, options, sizes, target, readings)
        if found is not None:
            return found
    title, notice = target, ""
    if title is not None and options.get("target") is None and title.lower() not in _PLAIN_TARGETS:
        notice = f"the target is taken to be {title}; --target names another"
    if title is None:
        title, notice = _guessed_target(frame, name, overrides, comma_is_decimal)
    used = {**options, "target": title}
    refuse_unused(options, (*_OF_TABLES, *formats.READING), "a table")
    table = TableOptions.of(used, comma_is_decimal)
    raw = from_table(frame, name, table, options["budget"], sizes.valid, sizes.test)
    return replace(raw, notices=(notice, *raw.notices)) if notice else raw


def _hold_words(frame: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether columns hold words, and neither numbers nor dates."""
    readings = read_columns(frame[list(columns)], None, Overrides())
    return not any(reading.role in ("number", "date", "lists", "empty") for reading in readings)


def find_target(frame: pd.DataFrame, name: str, options: Mapping[str, Any]) -> str | None:
    """Return the target: as named, or as targets are usually called. Raises DataError."""
    known = list(frame.columns)
    target = options.get("target")
    if target is None:
        usual = [column for column in known if column.lower() in columns.TARGETS]
        if "x" in map(str.lower, known):
            usual = [column for column in usual if column.lower() != "y"]  # of a place
        if len(usual) == 1:
            return usual[0]
        if len(known) <= columns.FEW:
            return columns.first_named(known, columns.LABELS_OF_TEXT)
        return None
    if target in known:
        return str(target)
    if target == "last":
        return known[-1]
    if str(target).isdecimal() and 1 <= int(target) <= len(known):
        return known[int(target) - 1]
    near = nearest(str(target), known)
    hint = f"did you mean {near!r}?" if near else f"its columns are {some(known, 8)}"
    raise DataError(wrong("target", target, f"must be a column of {name}", hint))


def _guessed_target(
    frame: pd.DataFrame, name: str, overrides: Overrides, comma_is_decimal: bool
) -> tuple[str, str]:
    """Return the number beside a date, in a table of these two; else raise DataError."""
    known = list(frame.columns)
    readings = read_columns(frame, None, overrides, comma_is_decimal)
    roles = [reading.role for reading in readings]
    if sorted(roles) == ["date", "number"]:
        target = readings[roles.index("number")].name
        return target, f"the target is taken to be {target}, the number beside a date"
    hint = f"try --target {known[-1]}"
    if roles.count("text") == 2:
        hint += f", or {asked_as('task', 'pairs')} if one is a translation of the other"
    raise DataError(f"{name} has the columns {some(known, 8)}, but no target is named; {hint}")


def _texts(
    frame: pd.DataFrame,
    name: str,
    options: Mapping[str, Any],
    sizes: Sizes,
    target: str | None,
    readings: Sequence[Reading],
) -> Raw | None:
    """Return labelled texts or pairs; None where the table is of another kind."""
    texts = _main_texts(readings, len(frame))
    # A column that is mostly empty is a remark on some rows.
    used = [r.name for r in readings if r.is_used and r.missing < len(frame) / 2]
    asked = options.get("task") == "text" or options.get("like") or options.get("text")
    if target is None and not used and not asked and _are_pairs(frame, texts):
        a, b = texts[:2]
        raw = _pairs(frame, name, {**options, "text": (a, b)}, sizes)
        told = f"{a} and {b} are read as pairs; --target with --text reads labelled text"
        return replace(raw, notices=(told, *raw.notices))
    text_column = _text_column(readings, texts, options)
    if text_column is None:
        if asked:
            raise DataError(
                f"{name} has no column that is rather text than the others; name it with --text"
            )
        return None
    others = [column for column in used if column != text_column]
    label = target
    notices = []
    if label is None and len(others) == 1:
        label = others[0]
        notices.append(f"the label is taken to be {label}; --target names another")
    elif label is None and asked:
        raise DataError(f"{name} has texts in {text_column!r}; name their label with --target")
    elif label is None or (others and not asked):
        return None
    if options.get("like") is None and options.get("task") != "text":
        _refuse_numbers(frame[str(label)], str(label), text_column, name, options)
    left = [reading.name for reading in readings if reading.name not in (text_column, label)]
    left = [column for column in left if column not in (options.get("drop") or ())]
    if left:
        notices.append(f"texts are read from {text_column}; left out: {some(left, 6)}")
    raw = _labelled(frame, name, options, text_column, str(label), sizes)
    return replace(raw, notices=(*notices, *raw.notices))


def _refuse_numbers(
    labels: pd.Series[Any], label: str, text_column: str, name: str, options: Mapping[str, Any]
) -> None:
    """Raise DataError where the label of texts is a number, such as a score with a fraction."""
    if options.get("task") == "classification":
        return
    try:
        target = read_target(labels, options.get("task"), name)
    except DataError:
        return  # whatever is wrong with them, they are no numbers
    if not target.classes:
        as_classes = asked_as("task", "classification")
        raise DataError(
            f"{name} has texts in {text_column!r} and numbers in {label!r}, but texts are learnt "
            "with classes; make classes of the numbers, leave the text out with --drop "
            f"{text_column}, or take each number as a class with {as_classes}"
        )


def _main_texts(readings: Sequence[Reading], n: int) -> list[str]:
    """Return columns of text, those that are mostly empty only where all are."""
    texts = [reading for reading in readings if reading.role == "text"]
    filled = [reading for reading in texts if reading.missing < n / 2]
    return [reading.name for reading in filled or texts]


def _are_pairs(frame: pd.DataFrame, texts: Sequence[str]) -> bool:
    """Whether a table is of two texts in each row: alone, or with Tatoeba's sign of its licence."""
    if len(texts) == 2:
        return True
    if len(texts) != 3:
        return False
    last = frame[texts[2]].astype("string")
    return bool(last.str.contains("CC-BY", regex=False, na=False).all())


def _text_column(
    readings: Sequence[Reading], texts: Sequence[str], options: Mapping[str, Any]
) -> str | None:
    like = options.get("like")
    known = [reading.name for reading in readings]
    if like is not None and like.text_column in known:
        return str(like.text_column)
    named = columns.first_named(known, columns.TEXT)
    is_asked = options.get("task") == "text" or like is not None
    if named is not None and (is_asked or named in texts or _is_alone(named, readings)):
        return named
    if len(texts) == 1:
        return texts[0]
    asked = options.get("task") == "text" or like is not None
    if asked and len(known) == 1:
        return known[0]
    # A column of words that name no rows, where there is nothing but it.
    return None


def _is_alone(named: str, readings: Sequence[Reading]) -> bool:
    """Whether a column that is named like a text holds words, and nothing else is a feature."""
    (reading,) = [reading for reading in readings if reading.name == named]
    others = [reading for reading in readings if reading.is_used and reading.name != named]
    return reading.role in ("category", "identifier", "text") and not others


def _labelled(
    frame: pd.DataFrame,
    name: str,
    options: Mapping[str, Any],
    text_column: str,
    label: str,
    sizes: Sizes,
) -> Raw:
    refuse_unused(options, (*_OF_TEXT, *formats.READING), "a table of text")
    check_texts_fit(frame[text_column], name)
    kept, gaps, sizes = present(frame, (text_column, label), name, options, sizes)
    places = [f"row {i + 1} of {name}" for i in np.flatnonzero(kept)]
    texts = cells_of(frame[text_column][kept], text_column, places)
    labels = cells_of(frame[label][kept], label, places)
    raw = text.labelled(texts, labels, name, dict(options), places)
    return _of_columns(raw, gaps, kept, sizes, text_column=text_column, target=label)


def _pairs(frame: pd.DataFrame, name: str, options: Mapping[str, Any], sizes: Sizes) -> Raw:
    used = (*text.OPTIONS, *formats.READING, "task", "drop", "text")
    refuse_unused(options, used, "pairs")
    a, b, notices = _pair_columns(frame, name, options)
    for column in (a, b):
        check_texts_fit(frame[column], name)
    kept, gaps, sizes = present(frame, (a, b), name, options, sizes)
    places = [f"row {i + 1} of {name}" for i in np.flatnonzero(kept)]
    sources = cells_of(frame[a][kept], a, places)
    targets = cells_of(frame[b][kept], b, places)
    pairs = list(zip(sources, targets, strict=True))
    raw = text.paired(pairs, name, dict(options), places)
    paired = _of_columns(raw, gaps, kept, sizes, text_column=a, target=b)
    return replace(paired, notices=(*notices, *paired.notices))


def _pair_columns(
    frame: pd.DataFrame, name: str, options: Mapping[str, Any]
) -> tuple[str, str, list[str]]:
    """Return the source's column, the target's, and what is left out."""
    known = list(frame.columns)
    like = options.get("like")
    if like is not None and like.text_column in known and like.target in known:
        return str(like.text_column), str(like.target), []
    told = list(options.get("text") or ())
    named = _named_pair(known)
    if len(told) == 2:
        a, b = told
    elif named:
        a, b = named
    else:
        remaining = [column for column in known if column not in (options.get("drop") or ())]
        if len(remaining) < 2:
            raise DataError(f"{name} has one column, but pairs need a source and a target")
        a, b = remaining[:2]
    left = [column for column in known if column not in (a, b)]
    if not left:
        return a, b, []
    return a, b, [f"pairs are read from {a} and {b}; left out: {some(left, 6)}"]


def _named_pair(known: Sequence[str]) -> tuple[str, str] | None:
    by_lower = {column.lower(): column for column in known}
    for a, b in columns.PAIRS:
        if a in by_lower and b in by_lower:
            return by_lower[a], by_lower[b]
    return None


def asks_pairs(options: Mapping[str, Any]) -> bool:
    """Whether a trained run is to read these, and it reads pairs."""
    like = options.get("like")
    return like is not None and like.task == "pairs"


def _of_columns(raw: Raw, gaps: dict[str, int], kept: Any, sizes: Sizes, **titles: str) -> Raw:
    """Return texts that know which columns they came from."""
    encode = raw.encode
    left = int((~kept).sum())
    notices = raw.notices
    if left:
        notices = (f"{count(left, 'row')} without a text or a label left out", *notices)

    def with_titles(train: Any) -> Encoded:
        assert encode is not None  # texts are always encoded once the training part is known
        encoded = encode(train)
        schema = replace(encoded.schema, **titles)  # type: ignore[arg-type]
        return encoded._replace(schema=schema)

    return replace(
        raw,
        encode=with_titles,
        missing=gaps,
        official_valid=sizes.valid,
        official_test=sizes.test,
        notices=notices,
        schema=replace(raw.schema, **titles),  # type: ignore[arg-type]
    )
