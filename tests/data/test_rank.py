"""The rank of the data matrix, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from samples import quietly

from danlu.data import load, rank


@pytest.mark.parametrize("true_rank", [1, 3, 7])
def test_the_spectrum_equals_numpy_s(true_rank: int) -> None:
    rng = np.random.default_rng(true_rank)
    x = rng.normal(size=(60, true_rank)) @ rng.normal(size=(true_rank, 9))
    found = rank.spectrum(x)
    centred = x - x.mean(0)
    values = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose(found.values, values, rtol=1e-9, atol=1e-9)
    assert found.rank == np.linalg.matrix_rank(centred) == true_rank
    shares = values[:true_rank] / values[:true_rank].sum()
    assert found.effective == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    explained = np.cumsum(values**2) / (values**2).sum()
    for share, components in zip(rank.SHARES, found.components, strict=True):
        assert explained[components - 1] >= share - 1e-12
        assert components == 1 or explained[components - 2] < share


def test_repeated_and_constant_features_do_not_add_to_the_rank() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200, 3))
    x = np.concatenate([a, a * 5, np.full((200, 2), 7.0)], 1).astype(np.float32)
    found = rank.of_data(load((x, np.arange(200) % 2)))
    assert found is not None and (found.rank, found.features) == (3, 8)
    assert rank.of_data(load("dna", limit=50)) is None
    assert rank.spectrum(np.ones((5, 2))).rank == 0


def test_numbers_of_levels_are_no_direction() -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": np.arange(300.0), "town": [f"t{k % 30}" for k in range(300)]})
    data = quietly(frame.assign(label=[0, 1] * 150))
    found = rank.of_data(data)
    assert found is not None and found.features == 1 and data.schema.embeddings
