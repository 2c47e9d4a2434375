"""Spreadsheets: their cells as they are, whatever stands above the table."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danlu.data.reading_memory import check_sheet_fits, check_table_fits, check_width
from danlu.data.sources.header import votes_for_names
from danlu.errors import DataError, count, reason_of, some

if TYPE_CHECKING:
    import pandas as pd

# How the files begin: archives, the binary format of before, OpenDocument.
_STARTS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_LOOKED_AT = 200  # rows
_PLACE = re.compile(rb"\br=[\"']([A-Z]{1,3})(\d{1,7})[\"']")
_SURE_WIDTH = 3  # cells: above rows of so many, a row of two fewer is a title


def is_spreadsheet(path: Path) -> bool:
    """Whether a file holds what its ending says: tables of text are given such endings, too."""
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(_STARTS)
    except OSError:
        return True  # the reader says why


def read_sheet(
    path: Path, wanted: set[str], header: str | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the table of a sheet, that with the columns that are wanted, else the first with rows.

    header: "none" or "first". Raises DataError for what is no spreadsheet.
    """
    import pandas as pd

    _check_size(path)
    try:
        # As they are: pandas would make numbers of codes, and gaps of names such as NA.
        sheets = pd.read_excel(
            path, sheet_name=None, header=None, dtype=object, keep_default_na=False, na_values=[""]
        )
    except ImportError as e:
        raise DataError(
            f"{path.name} needs a library for spreadsheets; try pip install 'danlu[excel]'"
        ) from e
    except Exception as e:  # the readers raise a dozen unrelated kinds
        raise DataError(f"{path.name} cannot be read as a spreadsheet: {reason_of(e)}") from e
    tables = {}
    for title, cells in sheets.items():
        found = _table(cells, f"{path.name}, sheet {title!r}", header)
        if found is not None:
            tables[str(title)] = found
    if not tables:
        raise DataError(f"{path.name} has no rows")
    chosen = next(iter(tables))
    for title, (frame, _) in tables.items():
        if wanted and wanted <= set(frame.columns):
            chosen = title
            break
    frame, notices = tables[chosen]
    others = [repr(title) for title in tables if title != chosen]
    if others:
        notices = (
            f"the sheet {chosen!r} of {path.name} is read; it also has {some(others)}",
            *notices,
        )
    return frame, notices


def _check_size(path: Path) -> None:
    """Raise DataError for a spreadsheet that is too large, or that has a cell very far from others.

    Every cell up to the last column and row takes memory, filled or not.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile):  # of the format before, or the reader says why
        check_sheet_fits(path.stat().st_size, path.name)
        return
    with archive:
        check_sheet_fits(sum(member.file_size for member in archive.infolist()), path.name)
        for member in archive.namelist():
            if not re.fullmatch(r"xl/worksheets/[^/]*\.xml", member):
                continue
            width, rows = _last_place(archive, member)
            check_width(width, path.name)
            check_table_fits(width * rows, 0, path.name)


def _last_place(archive: zipfile.ZipFile, member: str) -> tuple[int, int]:
    """Return the last column and row that any cell of a sheet names, such as XFD and 1048576."""
    width = rows = 0
    tail = b""
    try:
        with archive.open(member) as file:
            while block := file.read(1 << 20):
                for letters, number in _PLACE.findall(tail + block):
                    column = 0
                    for letter in letters:
                        column = 26 * column + letter - 64  # A is 65
                    width = max(width, column)
                    rows = max(rows, int(number))
                tail = block[-32:]
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return width, rows  # the reader says why
    return width, rows


def _table(
    cells: pd.DataFrame, name: str, header: str | None
) -> tuple[pd.DataFrame, tuple[str, ...]] | None:
    """Return the table within the cells of a sheet; None where it has no rows."""
    import pandas as pd

    cells = cells.dropna(how="all").dropna(axis=1, how="all")
    if len(cells) < 1 or not cells.shape[1]:
        return None
    cells, notices = _from_first_row(cells, name)
    has_names = header != "none"
    if header is None:
        rows = [[_as_text(cell) for cell in row] for row in cells.head(_LOOKED_AT).to_numpy()]
        has_names = votes_for_names(rows) >= 0
        if not has_names:
            told = f"the first row of {name} is read as a row; --header first takes it as names"
            notices = (*notices, told)
    if has_names:
        titles = ["" if pd.isna(title) else str(title) for title in cells.iloc[0]]
        cells = cells.iloc[1:]
    else:
        titles = [f"c{k + 1}" for k in range(cells.shape[1])]
    if cells.empty:
        return None
    frame = cells.reset_index(drop=True).set_axis(titles, axis=1)
    return frame.infer_objects(), notices


def _from_first_row(cells: pd.DataFrame, name: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the rows from that of the names on: what is above are titles and remarks."""
    filled = cells.notna().sum(axis=1)
    usual = Counter(filled.head(_LOOKED_AT).tolist()).most_common(1)[0][0]
    skipped = 0
    while usual >= _SURE_WIDTH and skipped < len(cells) - 1 and filled.iloc[skipped] <= usual - 2:
        skipped += 1
    if not skipped:
        return cells, ()
    told = f"{count(skipped, 'row')} at the beginning of {name} left out as remarks"
    return cells.iloc[skipped:].dropna(axis=1, how="all"), (told,)


def _as_text(cell: Any) -> str:
    import pandas as pd

    if pd.isna(cell):
        return ""
    # A number in a cell is one, however it is shown.
    return f"{cell:g}" if isinstance(cell, float) else str(cell)
