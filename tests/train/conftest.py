"""Data that several tests look at."""

from __future__ import annotations

import numpy as np
import pytest

from danlu import Data, load


@pytest.fixture(scope="module")
def pictures() -> Data:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.integers(0, 160, (120, 1, 16, 16)) + 20 * y[:, None, None, None]
    return load((x.astype(np.uint8), y))
