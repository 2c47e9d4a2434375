"""Formats of lines that libraries have: Weka's ARFF, LIBSVM's sparse rows, fastText's labels."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

from danlu.data.reading_memory import (
    PER_BYTE_OF_TEXT,
    check_lines_fit,
    check_table_fits,
    check_width,
)
from danlu.errors import DataError, some

if TYPE_CHECKING:
    import pandas as pd

_LOOKED_AT = 200  # lines by which a format is told
_ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(.*)", re.I)
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_DATA = re.compile(r"^\s*@data\b.*$", re.I | re.M)
_SPARSE_ROW = re.compile(rf"{_NUMBER}(?:\s+qid:\d+)?(?:\s+\d+:{_NUMBER})*\s*(?:#.*)?")
_LABEL = "__label__"


def read_known_lines(
    text: str, name: str, width: int | None = None
) -> tuple[pd.DataFrame, str] | None:
    """Return the table of a text in one of these formats, and a notice; None for another text.

    width: features of LIBSVM rows, where a run knows them: an absent one is 0.
    """
    beginning = "\n".join(text.split("\n", _LOOKED_AT)[:_LOOKED_AT])
    lines = [line for line in beginning.splitlines() if line.strip()]
    if not lines:
        return None
    begins = next((line for line in lines if not line.lstrip().startswith("%")), "")
    if re.match(r"\s*@(relation|attribute)\b", begins, re.I) and _DATA.search(text):
        return _arff(text, name)
    rows = [line.strip() for line in lines if not line.lstrip().startswith("#")]
    are_sparse = len(rows) > 1 and all(map(_SPARSE_ROW.fullmatch, rows))
    if are_sparse and sum(":" in row for row in rows) > len(rows) / 2:
        return _sparse(text, name, width)
    if all(line.startswith(_LABEL) for line in lines):
        return _fasttext(text, name)
    return None


def _arff(text: str, name: str) -> tuple[pd.DataFrame, str]:
    import pandas as pd

    check_table_fits(text.count(",") + text.count("\n"), PER_BYTE_OF_TEXT * len(text), name)
    head, data = _DATA.split(text, maxsplit=1)
    titles = []
    for line in head.splitlines():
        found = _ATTRIBUTE.match(line.strip())
        if found:
            titles.append(found[1].strip("'\""))
    rows = []
    filled = "\n".join(
        line for line in data.splitlines() if line.strip() and not line.lstrip().startswith("%")
    )
    if filled.lstrip().startswith("{"):
        raise DataError(f"{name} is a sparse ARFF file; save it as a dense one, or as LIBSVM")
    for line in filled.splitlines():
        rows.append(_arff_cells(line))
    odd = [k for k, row in enumerate(rows, 1) if len(row) != len(titles)]
    if odd or not rows:
        raise DataError(
            f"row {odd[0] if odd else 1} of {name} has not the {len(titles)} cells that its "
            "attributes name; correct it"
        )
    frame = pd.DataFrame(rows, columns=titles, dtype="string")
    return frame, f"{name} is read as ARFF, with the attributes {some(titles, 6)}"


def _arff_cells(line: str) -> list[str]:
    """Return the cells of a row, in which either quotation mark may hold commas together."""
    quote = '"' if line.count('"') > line.count("'") else "'"
    (row,) = csv.reader([line], quotechar=quote, escapechar="\\", skipinitialspace=True)
    return [cell.strip() for cell in row]


def _sparse(text: str, name: str, width: int | None) -> tuple[pd.DataFrame, str]:
    import pandas as pd
    from sklearn.datasets import load_svmlight_file

    check_table_fits(text.count(":"), PER_BYTE_OF_TEXT * len(text), name)
    try:
        x, y = load_svmlight_file(io.BytesIO(text.encode()), n_features=width, zero_based="auto")
    except (ValueError, OverflowError) as e:
        raise DataError(f"{name} cannot be read as LIBSVM rows: {e}") from e
    check_width(x.shape[1], name)
    check_table_fits(x.shape[0] * x.shape[1], 0, name)
    columns = [f"f{k + 1}" for k in range(x.shape[1])]
    frame = pd.DataFrame(x.toarray(), columns=columns)
    frame["label"] = pd.Series([f"{value:.15g}" for value in y], dtype="string")
    return frame, f"{name} is read as LIBSVM rows: a label, then features by their numbers"


def _fasttext(text: str, name: str) -> tuple[pd.DataFrame, str]:
    import pandas as pd

    check_lines_fit(text, name)
    rows = []
    several = 0
    for line in text.splitlines():
        words = line.split()
        labels = [word for word in words if word.startswith(_LABEL)]
        if not labels:
            continue
        several += len(labels) > 1
        rest = " ".join(word for word in words if not word.startswith(_LABEL))
        rows.append((labels[0].removeprefix(_LABEL), rest))
    if several > len(rows) / 2:
        raise DataError(
            f"{name} gives most texts several labels at once, which cannot be learnt; keep one"
        )
    frame = pd.DataFrame(rows, columns=["label", "text"], dtype="string")
    note = f"{name} is read as fastText's lines: a label, then the text"
    if several:
        note = f"{note}; of {several} texts with several labels, the first is taken"
    return frame, note
