"""Cells of text, by the words that are written in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.memmap import Array
from danlu.data.tables import cells

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Words:
    """Cells of text by what is written in them: most columns repeat a few words.

    codes [N]: the number of a cell's word; words: those, stripped; missing: which of them stand for
    nothing; counts: how many cells have each.
    """

    codes: Array
    words: pd.Series[Any]
    missing: Array
    counts: Array

    @classmethod
    def of(cls, text: pd.Series[Any]) -> Words:
        """Return the words of a column."""
        import pandas as pd

        # A missing cell is an empty word.
        codes, written = pd.factorize(text.fillna(""))
        stripped = pd.Series(written, dtype="string").str.strip()
        merged, words = pd.factorize(stripped)
        codes = merged[codes] if len(merged) else codes
        series = pd.Series(words, dtype="string")
        counts = np.bincount(codes, minlength=len(series))
        return cls(codes, series, cells.is_missing(series), counts)

    @property
    def present(self) -> pd.Series[Any]:
        """Words that are not missing, each once."""
        return self.words[~self.missing]

    @property
    def n_missing(self) -> int:
        """How many cells are missing."""
        return int(self.counts[self.missing].sum())

    @property
    def cells_of_present(self) -> Array:
        """How many cells have each of the words that are present."""
        return self.counts[~self.missing]

    def spread(self, values: pd.Series[Any], empty: Any) -> pd.Series[Any]:
        """Return values of the words that are present as values of the cells [N]."""
        import pandas as pd

        of_words = pd.Series(empty, index=range(len(self.words)), dtype=values.dtype)
        of_words[~self.missing] = values.to_numpy()
        return of_words.take(self.codes).reset_index(drop=True)


def text_cells(values: pd.Series[Any]) -> pd.Series[Any] | None:
    """Return cells of text, as they are written; None for a column of another type."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.astype("string")
    if pd.api.types.is_bool_dtype(values):
        return values.astype("string")
    if not (pd.api.types.is_object_dtype(values) or pd.api.types.is_string_dtype(values)):
        return None
    if pd.api.types.is_object_dtype(values):
        kinds = set(values.dropna().map(type))
        if kinds and not kinds <= {str, bool, np.bool_, int, float, np.str_}:
            return None
        if kinds and kinds <= {int, float}:
            return None
    return values.astype("string")


def spelled(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return cells as words: 3, not 3.0, where all numbers are whole."""
    import pandas as pd

    if pd.api.types.is_float_dtype(values):
        numbers = values.dropna()
        if bool((numbers == numbers.round()).all()) and bool((numbers.abs() < 2**53).all()):
            return values.astype("Int64").astype("string")
    return values.astype("string")
