"""Rows of tables of text whose cells are there, or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.parts import Sizes
from danlu.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def is_there(cell: Any) -> bool:
    """Whether a cell holds anything to read."""
    import pandas as pd

    is_missing = pd.api.types.is_scalar(cell) and pd.isna(cell)
    return not is_missing and bool(str(cell).strip())


def present(
    frame: pd.DataFrame,
    needed: tuple[str, str],
    name: str,
    options: Mapping[str, Any],
    sizes: Sizes,
) -> tuple[Any, dict[str, int], Sizes]:
    """Return which rows have both cells, how many cells each column lacks, and the parts' sizes."""
    there = {column: frame[column].map(is_there).to_numpy(bool) for column in needed}
    kept = there[needed[0]] & there[needed[1]]
    gaps = {column: int((~has).sum()) for column, has in there.items() if not has.all()}
    if options.get("missing") == "refuse" and gaps:
        first = int(np.flatnonzero(~kept)[0]) + 1
        lacking = next(column for column in needed if not there[column][first - 1])
        raise DataError(
            f"row {first} of {name} lacks {lacking!r}; fill it, or leave such rows out with "
            "--missing drop"
        )
    if not kept.any():
        raise DataError(f"every row of {name} lacks {needed[0]!r} or {needed[1]!r}; fill them")
    n_train = len(kept) - sizes.valid - sizes.test
    parts = np.split(kept, [n_train, n_train + sizes.valid])
    return kept, gaps, Sizes(int(parts[1].sum()), int(parts[2].sum()))


def cells_of(values: pd.Series[Any], column: str, places: Sequence[str]) -> list[str]:
    """Return cells as texts. Raises DataError for lists and tables."""
    found = []
    for value, place in zip(values, places, strict=True):
        if isinstance(value, (list, tuple, dict, np.ndarray)):
            what = "table" if isinstance(value, dict) else "list"
            raise DataError(
                f"{place} has a {what} as {column!r}, but it must be text; join it, or write "
                "tagged text as a .bio file"
            )
        found.append(str(value))
    return found
