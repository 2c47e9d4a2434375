"""How many directions the examples need: the rank of the data matrix and its singular values.

Legend: n examples, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from danlu.data.data import Data
from danlu.data.memmap import Array

SHARES = (0.90, 0.95, 0.99)  # of the variance
_MOST_VALUES = 12_000_000  # of the matrix that is decomposed
_FEWEST_ROWS = 1000
_NORMALIZED = "zscore"


@dataclass(frozen=True)
class Spectrum:
    """Of a centred matrix [n, F].

    values: its singular values, the largest first. rank: how many are not 0, as NumPy's
    `matrix_rank` counts. effective: exp of the entropy of their shares (Roy and Vetterli 2007, "The
    effective rank"). components: how many directions hold 90, 95 and 99 % of the variance.
    """

    examples: int
    features: int
    rank: int
    effective: float
    components: tuple[int, ...]
    values: Array


def spectrum(x: Array, precision: float = np.finfo(np.float64).eps) -> Spectrum:
    """Return the spectrum of a matrix [n, F]; its columns are centred.

    precision: of the values, below which a singular value is rounding.
    """
    centred = x.astype(np.float64)
    centred = centred - centred.mean(0)
    values = np.linalg.svd(centred, compute_uv=False)
    tolerance = values[0] * max(centred.shape) * precision
    rank = int((values > tolerance).sum())
    if rank == 0:
        return Spectrum(len(x), x.shape[1], 0, 0.0, (0,) * len(SHARES), values)
    shares = values[:rank] / values[:rank].sum()
    effective = float(np.exp(-(shares * np.log(shares)).sum()))
    explained = np.cumsum(values**2) / (values**2).sum()
    components = tuple(int(np.searchsorted(explained, share - 1e-12)) + 1 for share in SHARES)
    return Spectrum(len(x), x.shape[1], rank, effective, components, values)


def of_data(data: Data) -> Spectrum | None:
    """Return the spectrum of the training part, standardised; None of tokens, which are no numbers.

    Of a large part some thousand examples stand for all; numbers of levels are left out.
    """
    if data.schema.is_text or not data.size("train"):
        return None
    index = data.parts["train"]
    values = max(1, data.x[0].numel())
    most = max(_FEWEST_ROWS, _MOST_VALUES // values)
    if len(index) > most:
        # Evenly, as the order may mean something.
        places = np.linspace(0, len(index) - 1, most).astype(np.int64)
        index = index[places]
    x = data.normalizer(_NORMALIZED)(data.x[index]).flatten(1).numpy()
    levels = [place for place, _ in data.schema.embeddings]
    x = np.delete(x, levels, axis=1)
    if not x.shape[1]:
        return None
    return spectrum(x, float(np.finfo(np.float32).eps))
