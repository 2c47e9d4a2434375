from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from samples import write_idx


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "idx"
    folder.mkdir()
    for stem, n in (("train", 60), ("t10k", 20)):
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 6, 5)))
        write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", np.arange(n) % 3)
    return folder
