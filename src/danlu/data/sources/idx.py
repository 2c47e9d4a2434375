"""IDX files, the form MNIST and its relatives come in.

A magic number, the sizes, then bytes; big-endian, maybe gzipped.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from danlu.data.memmap import Array, allocate
from danlu.data.raw import Raw
from danlu.data.schema import Schema
from danlu.data.sources.images import resize_array
from danlu.errors import DataError

_NAMES = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}
_BLOCK = 1 << 22


def find(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The image and label files of each part that the folder holds."""
    found = {}
    for part, (images, labels) in _NAMES.items():
        pair = [_first_file(folder, f"{stem}*ubyte*") for stem in (images, labels)]
        if pair[0] and pair[1]:
            found[part] = (pair[0], pair[1])
    return found


def _first_file(folder: Path, pattern: str) -> Path | None:
    return next((path for path in sorted(folder.glob(pattern)) if path.is_file()), None)


def load(
    folder: Path, classes: tuple[str, ...], resize: tuple[int, int] | None, budget: int
) -> Raw:
    """Return a folder's training and test files; labels become digits when no names are known."""
    files = find(folder)
    if "train" not in files:
        raise DataError(
            f"{str(folder)!r} holds no pair train-images*ubyte and train-labels*ubyte (.gz or not)"
        )
    order = [p for p in ("train", "test") if p in files]
    sizes = [_image_sizes(files[p][0]) for p in order]
    labels = []
    for part, size in zip(order, sizes, strict=True):
        images_file, labels_file = files[part]
        n = _count_of_labels(labels_file)
        if size[0] != n:
            raise DataError(
                f"{images_file.name} has {size[0]:,} images, but {labels_file.name} has {n:,} "
                "labels"
            )
        labels.append(_read_labels(labels_file))
    if len({s[1:] for s in sizes}) > 1:
        shapes = " and ".join("×".join(map(str, s[1:])) for s in sizes)
        raise DataError(f"the training and test images in {str(folder)!r} differ in size: {shapes}")
    h, w = resize or sizes[0][1:]
    x = allocate((sum(s[0] for s in sizes), 1, h, w), np.uint8, budget)
    start = 0
    for part, size in zip(order, sizes, strict=True):
        _read_images(files[part][0], size, x[start : start + size[0]])
        start += size[0]
    y = np.concatenate(labels)
    names = classes or tuple(str(k) for k in range(int(y.max()) + 1))
    schema = Schema("classification", (1, h, w), names, mode="L")
    return Raw(x, y, schema, official_test=sizes[1][0] if len(sizes) > 1 else 0)


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as f:
        zipped = f.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if zipped else path.open("rb")


def _header(f: BinaryIO, path: Path, dims: int) -> tuple[int, ...]:
    head = f.read(4 * (dims + 1))
    if len(head) < 4 * (dims + 1):
        raise DataError(f"{path.name} ends inside its header ({len(head)} bytes); fetch it again")
    magic, *sizes = struct.unpack(f">{dims + 1}I", head)
    if magic != 0x800 + dims:
        kind = "images" if dims == 3 else "labels"
        raise DataError(
            f"{path.name} is no IDX file of {kind}: its magic number is {magic:#x}, but must be "
            f"{0x800 + dims:#x}"
        )
    return tuple(sizes)


def _image_sizes(path: Path) -> tuple[int, int, int]:
    try:
        with _open(path) as f:
            n, h, w = _header(f, path, 3)
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{path.name} is damaged ({e}); fetch it again") from e
    if n * h * w == 0:
        raise DataError(
            f"{path.name} promises {n} images of {h}×{w}; it holds nothing to learn from"
        )
    # gzip packs at most about 1,030 to 1: a header that promises more is wrong, and gets no memory.
    if n * h * w > 1100 * path.stat().st_size:
        raise DataError(
            f"{path.name} is truncated: it promises {n * h * w} bytes, but has "
            f"{path.stat().st_size} (packed); fetch it again"
        )
    return n, h, w


def _fill(f: BinaryIO, out: Array, path: Path) -> None:
    """Read exactly the bytes of `out`."""
    view, got = out.data.cast("B"), 0
    try:
        while got < len(view):
            n = f.readinto(view[got : got + _BLOCK])  # type: ignore[attr-defined]
            if not n:
                break
            got += n
    except (EOFError, zlib.error, gzip.BadGzipFile):
        pass
    if got < len(view):
        raise DataError(
            f"{path.name} is truncated: it promises {len(view)} bytes, but has {got}; fetch it "
            "again"
        )


def _count_of_labels(path: Path) -> int:
    try:
        with _open(path) as f:
            return _header(f, path, 1)[0]
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{path.name} is damaged ({e}); fetch it again") from e


def _read_labels(path: Path) -> Array:
    try:
        with _open(path) as f:
            (n,) = _header(f, path, 1)
            y = np.empty(n, np.uint8)
            _fill(f, y, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{path.name} is damaged ({e}); fetch it again") from e
    return y.astype(np.int64)


def _read_images(path: Path, size: tuple[int, int, int], out: Array) -> None:
    n, h, w = size
    with _open(path) as f:
        _header(f, path, 3)
        if out.shape[2:] == (h, w):
            _fill(f, out, path)
            return
        rows = max(1, _BLOCK // (h * w))
        for start in range(0, n, rows):
            block = np.empty((min(rows, n - start), 1, h, w), np.uint8)
            _fill(f, block, path)
            out[start : start + len(block)] = resize_array(block, out.shape[2:])
