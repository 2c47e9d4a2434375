from __future__ import annotations

import numpy as np
import pytest

from danlu import Data, load


@pytest.fixture(scope="module")
def coloured() -> Data:
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    return load(
        ((rng.integers(0, 160, (90, 3, 32, 32)) + 20 * y[:, None, None, None]).astype(np.uint8), y)
    )
