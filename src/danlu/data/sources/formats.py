"""Files that hold a table or arrays, by what their names end with."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.memmap import Array
from danlu.data.reading_memory import check_fits, check_json_fits
from danlu.data.sources import columns
from danlu.data.sources.arrow import ARROW, frame_of_arrow, read_arrow
from danlu.data.sources.delimited import read_delimited
from danlu.data.sources.excel import is_spreadsheet, read_sheet
from danlu.data.sources.opened import open_text, suffix_of
from danlu.data.text import check_encodable
from danlu.errors import DataError, reason_of, some
from danlu.files import parse_json

if TYPE_CHECKING:
    import pandas as pd

Arrays = dict[str, Array]
DELIMITED = (".csv", ".tsv", ".tab", ".data", ".dat", ".test", ".psv", ".all-data", ".asc")
JSON = (".jsonl", ".ndjson", ".json")
EXCEL = (".xlsx", ".xlsm", ".xls", ".ods")
READING = ("separator", "header", "encoding")  # options that say how text becomes a table
_NAMES_OF_PAIRS = {name for pair in columns.PAIRS for name in pair} | set(columns.TEXT)
_X_NAMES = ("x", "data", "features", "images", "image", "inputs", "input", "samples")
_Y_NAMES = ("y", "target", "targets", "label", "labels", "class", "classes", "output", "outputs")
_PARTS = {"train": ("train", "training", "tr"), "valid": ("valid", "val", "validation", "dev"),
          "test": ("test", "testing", "te")}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table as a file holds it, and how it was read.

    comma_is_decimal: what `1,234` means where nothing else tells.
    """

    frame: pd.DataFrame
    notices: tuple[str, ...] = ()
    comma_is_decimal: bool = False


def is_table(path: Path) -> bool:
    """Whether a file's name says that it holds a table."""
    return suffix_of(path) in (*DELIMITED, *JSON, *EXCEL, *ARROW, ".parquet")


def read_table(path: Path, options: Mapping[str, Any]) -> Table:
    """Return the table of a file; options: separator, header, encoding."""
    suffix = suffix_of(path)
    if suffix in JSON:
        return read_json(*decoded(path, options))
    if suffix in EXCEL and is_spreadsheet(path):
        return read_excel(path, options)
    if suffix in ARROW or suffix == ".parquet":
        return Table(frame_of_arrow(read_arrow(path)))
    opened = open_text(path, options.get("encoding"))
    return read_text_table(opened.text, path.name, options, opened.notices)


def decoded(path: Path, options: Mapping[str, Any]) -> tuple[str, str]:
    """Return a file's text and name."""
    return open_text(path, options.get("encoding")).text, path.name


def read_text_table(
    text: str, name: str, options: Mapping[str, Any], notices: tuple[str, ...] = ()
) -> Table:
    """Return the table that is written in a text."""
    separator = options.get("separator")
    if separator is None and "\t" in text and name.lower().endswith((".tsv", ".tab")):
        separator = "tab"
    header = options.get("header")
    like = options.get("like")
    are_pairs = options.get("task") == "pairs" or (like is not None and like.task == "pairs")
    if header is None and are_pairs:
        # The first pair may look like names, so only known ones are.
        first = re.split(r"[\t,;|]", text.split("\n", 1)[0].strip().lower())
        header = "first" if {cell.strip(' "') for cell in first} & _NAMES_OF_PAIRS else "none"
    if header is None and like is not None and like.columns:
        header = _header_of_known(text, name, separator, like)
    if header is None and options.get("target") is not None:
        # Who names a column says that there are names.
        first_line = text.lstrip("\ufeff").split("\n", 1)[0]
        cells = re.split(r"[\t,;|]", first_line)
        if str(options["target"]) in {cell.strip(' "\r') for cell in cells}:
            header = "first"
    read = read_delimited(text, name, separator, header)
    # Where commas are decimal, semicolons set cells apart.
    return Table(read.frame, (*notices, *read.notices), comma_is_decimal=read.separator == ";")


def _header_of_known(text: str, name: str, separator: str | None, like: Any) -> str | None:
    """Return whether the first line names the columns of a run that is to read a file."""
    known = {column.name for column in like.columns} | {like.target, *like.identifiers}
    first = read_delimited(text, name, separator, "none").frame.iloc[0]
    cells = {str(cell).strip() for cell in first}
    return "first" if cells & known else "none"


def read_json(text: str, name: str) -> Table:
    """Return a table of JSON objects: one on each line, or a list of them."""
    check_json_fits(text, name)
    rows: list[dict[str, Any]] = []
    whole = _table_in_one_object(text)
    if whole is not None:
        rows = whole
    elif text.lstrip().startswith("["):
        found = _parsed(text, name)
        if not all(isinstance(row, dict) for row in found):
            raise DataError(f"{name} must hold a list of JSON objects, each an example")
        rows = found
    else:
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            if not line.strip():
                continue
            row = _parsed(line, f"line {number} of {name}")
            if not isinstance(row, dict):
                raise DataError(
                    f'line {number} of {name} is no JSON object; write {{"text": …, "label": …}}'
                )
            for value in row.values():
                if isinstance(value, str):
                    check_encodable(value, f"line {number} of {name}")
            rows.append(row)
    if not rows:
        raise DataError(f"{name} has no lines")
    return Table(frame_of_records(rows))


def frame_of_records(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return records as a table whose cells are as they are.

    pandas would make numbers with gaps of whole ones.
    """
    import pandas as pd

    names = list(dict.fromkeys(key for row in rows for key in row))
    columns = {str(key): pd.Series([row.get(key) for row in rows], dtype=object) for key in names}
    return pd.DataFrame(columns)


def _table_in_one_object(text: str) -> list[dict[str, Any]] | None:
    """Return the rows of a table that is one JSON object, as pandas and web pages write it.

    {"columns": […], "data": [[…], …]}, {"a": {"0": …}, "b": {"0": …}}, {"a": […], "b": […]}, or
    a list of objects under a single name, {"data": [{…}, …]}; None for another text.
    """
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = parse_json(text)
    except ValueError:
        return None
    columns, data = found.get("columns"), found.get("data")
    if isinstance(columns, list) and isinstance(data, list):
        return [dict(zip(map(str, columns), row, strict=False)) for row in data]
    lists = [v for v in found.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    if len(lists) == 1 and all(isinstance(row, dict) for row in lists[0]):
        return list(lists[0])
    values = list(found.values())
    if len(values) > 1 and all(isinstance(v, dict) for v in values):
        rows = list(dict.fromkeys(row for v in values for row in v))
        return [{name: v.get(row) for name, v in found.items()} for row in rows]
    if len(values) > 1 and all(isinstance(v, list) for v in values):
        lengths = {len(v) for v in values}
        if len(lengths) == 1 and lengths != {0}:
            return [dict(zip(found, row, strict=True)) for row in zip(*values, strict=True)]
    return None


def _parsed(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as e:
        raise DataError(f"{where} is no JSON: {reason_of(e)}") from e


def read_excel(path: Path, options: Mapping[str, Any]) -> Table:
    """Return a sheet of a spreadsheet: that with the target, else the first with rows."""
    like = options.get("like")
    wanted = {str(options["target"])} if options.get("target") else set()
    if like is not None:
        wanted = {column.name for column in like.columns}
    frame, notices = read_sheet(path, wanted, options.get("header"))
    return Table(frame, notices)


def read_arrays(path: Path) -> Arrays:
    """Return the arrays of an NPZ, NPY, HDF5 or MATLAB file by name."""
    suffix = path.suffix.lower()
    try:
        return _ARRAYS[suffix](path)
    except ImportError as e:
        extra = "hdf5" if suffix in (".h5", ".hdf5") else "matlab"
        raise DataError(f"{path.name} needs a library; try pip install 'danlu[{extra}]'") from e
    except DataError:
        raise
    except Exception as e:  # each reader raises kinds of its own
        raise DataError(f"{path.name} cannot be read: {reason_of(e)}") from e


def _read_npz(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        check_fits(sum(member.file_size for member in archive.zip.infolist()), path.name)
        return {name: archive[name] for name in archive.files}


def _read_npy(path: Path) -> Arrays:
    check_fits(path.stat().st_size, path.name)
    return {"x": np.load(path, allow_pickle=False)}


def _read_hdf5(path: Path) -> Arrays:
    import h5py

    found: Arrays = {}

    def take(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            if node.external or node.is_virtual:
                raise DataError(f"{name} of {path.name} lies in other files; copy it into this one")
            check_fits(node.size * node.dtype.itemsize, f"{name} of {path.name}")
            found[name] = np.asarray(node)

    with h5py.File(path, "r") as file:
        file.visititems(take)
    return found


def _read_mat(path: Path) -> Arrays:
    from scipy.io import loadmat, whosmat

    try:
        for name, shape, _ in whosmat(path):
            check_fits(8 * math.prod(shape), f"{name} of {path.name}")
        content = loadmat(path)
    except NotImplementedError:
        # From version 7.3 on these are HDF5 files, whose axes are turned round.
        return {name: array.T for name, array in _read_hdf5(path).items()}
    return {
        name: array
        for name, array in content.items()
        if not name.startswith("__") and isinstance(array, np.ndarray)
    }


_ARRAYS: dict[str, Callable[[Path], Arrays]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".mat": _read_mat,
}
ARRAY_SUFFIXES = tuple(_ARRAYS)


def parts_of_arrays(arrays: Arrays, name: str) -> tuple[dict[str, tuple[Array, Array]], list[str]]:
    """Return (x, y) by part ("all" where there are none), found by their names."""
    found: dict[str, dict[str, str]] = {}
    for title in arrays:
        part, role = _part_and_role(title)
        if role:
            found.setdefault(part, {}).setdefault(role, title)
    pairs = {part: names for part, names in found.items() if {"x", "y"} <= set(names)}
    if not pairs:
        listed = some((f"{title} {array.shape}" for title, array in arrays.items()), 8)
        raise DataError(
            f"{name} holds {listed}, but no pair such as x and y, or x_train and y_train; rename "
            "them"
        )
    if len(pairs) == 1 and "all" not in pairs:
        pairs = {"all": next(iter(pairs.values()))}  # a part alone is all there is
    used = [title for names in pairs.values() for title in (names["x"], names["y"])]
    left = [title for title in arrays if title not in used]
    notices = [f"read from {name}: {some(used, 8)}"]
    if left:
        notices = [f"{notices[0]}; left out: {some(left, 8)}"]
    return {
        part: (arrays[names["x"]], arrays[names["y"]]) for part, names in pairs.items()
    }, notices


def role_of_arrays(title: str) -> str | None:
    """Return "x" or "y" where a name says which of the two it holds, such as X_train."""
    return _part_and_role(title)[1]


def _part_and_role(title: str) -> tuple[str, str | None]:
    words = [word for word in _words(title) if word]
    part = "all"
    rest = []
    for word in words:
        named = _part_named(word)
        if named:
            part = named
        elif word[:1] in ("x", "y") and (of := _part_named(word[1:])):
            part = of  # Xtrain, ytest
            rest.append(word[0])
        else:
            rest.append(word)
    if any(word in _Y_NAMES for word in rest):
        return part, "y"
    if any(word in _X_NAMES for word in rest):
        return part, "x"
    return part, None


def _part_named(word: str) -> str | None:
    return next((part for part, spellings in _PARTS.items() if word in spellings), None)


def _words(title: str) -> list[str]:
    """Return the words of a name such as x_train, trainX or train/labels."""
    spaced = "".join(f" {sign}" if sign.isupper() else sign for sign in title)
    if title.isupper():
        spaced = title
    for sign in "_-/.":
        spaced = spaced.replace(sign, " ")
    return spaced.lower().split()


def as_labels(y: Array) -> Array:
    """Return labels [N] of columns [N, 1] or rows [1, N], or of one-hot rows [N, K]."""
    if y.ndim == 2 and 1 in y.shape:
        return y.reshape(-1)
    is_one_hot = y.ndim == 2 and bool(((y == 0) | (y == 1)).all()) and bool((y.sum(1) == 1).all())
    return y.argmax(1) if is_one_hot else y
