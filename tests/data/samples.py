"""What several tests of sources make and ask."""

from __future__ import annotations

import gzip
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danlu.data import Data, load
from danlu.errors import DanluError, DataNotice


def write_idx(path: Path, array: np.ndarray, zipped: bool = True) -> None:
    content = (
        struct.pack(f">{array.ndim + 1}I", 0x800 + array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )
    path.write_bytes(gzip.compress(content) if zipped else content)


def make_pictures(
    root: Path, per_class: int = 6, size: tuple[int, int] = (8, 10), mode: str = "RGB"
) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            shape = (*size, 3) if mode == "RGB" else size
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(
                root / name / f"{i}.png"
            )
    return root


def quietly(source: object, **options: object) -> Data:
    """The data of a source, whose notices are looked at and not warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataNotice)
        return load(source, **options)  # type: ignore[arg-type]


def refused(source: object, **options: object) -> str:
    with pytest.raises(DanluError) as caught:
        quietly(source, **options)
    assert all("\n" not in m for m in caught.value.mistakes)
    return str(caught.value)
