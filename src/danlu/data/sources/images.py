"""Pictures by Pillow: folders with one subfolder per class, and bytes from Parquet or the hub."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from danlu.data.memmap import Array, allocate, cache_folder
from danlu.data.parts import in_order, part_of
from danlu.data.raw import Raw
from danlu.data.schema import Schema
from danlu.errors import DataError, StorageError, reason_of, some
from danlu.files import writing

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
KINDS = "one subfolder of pictures per class, texts (.txt), tagged text (.bmes, .bio, .conll), or IDX or Parquet files"
_CAMERA = {"JPEG", "MPO", "WEBP"}  # these say how the camera was held (Pillow turns TIFF itself)
_GREY = {"1", "L", "LA", "I", "I;16", "F"}
_BLOCK = 512


_ONE = (
    threading.RLock()
)  # the filters are the process's: two threads at once would restore each other's


@contextlib.contextmanager
def no_bomb_warning() -> Iterator[None]:
    """Within, Pillow does not warn of large pictures: `open_image` refuses them itself."""
    with _ONE, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def resize_array(images: Array, size: Sequence[int]) -> Array:
    """Images [n, C, H, W] at another (H, W), antialiased by Pillow."""
    h, w = size
    frames = images.transpose(0, 2, 3, 1)
    grey = frames.shape[3] == 1
    done = [
        np.asarray(
            Image.fromarray(f[..., 0] if grey else f).resize((w, h), Image.Resampling.BILINEAR)
        )
        for f in frames
    ]
    out = np.stack(done)
    return out[:, None] if grey else out.transpose(0, 3, 1, 2)


def open_image(source: Path | bytes, name: str) -> Image.Image:
    """The picture, not yet decoded. Raises DataError in words for what is no picture or too large to open."""
    limit = Image.MAX_IMAGE_PIXELS or 2**62
    too_large = f"{name} unpacks to more than {limit // 10**6} million pixels; shrink or remove it"
    try:
        if isinstance(source, Path) and source.stat().st_size == 0:
            raise DataError(f"{name} is empty (0 bytes); remove it")
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        if image.format in _CAMERA and image.width * image.height <= limit:
            ImageOps.exif_transpose(image, in_place=True)  # as the camera was held
    except Image.DecompressionBombError as e:
        raise DataError(too_large) from e
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as e:
        raise DataError(
            f"{name} is no picture that can be read ({_reason(e)}); remove or replace it"
        ) from e
    if image.width * image.height > limit:
        image.close()
        raise DataError(too_large)
    if image.mode == "F":
        image.close()
        raise DataError(
            f"{name} holds floating-point values, not grey levels; save it with 8 or 16 bits"
        )
    return image


def decode(source: Path | bytes, name: str, mode: str, size: tuple[int, int] | None) -> Array:
    """Pixels [C, H, W], uint8, in the mode "L" or "RGB", resized to (H, W) when given."""
    image = open_image(source, name)
    try:
        image = image.convert("RGB") if image.mode in ("P", "CMYK") and mode == "L" else image
        if image.mode.startswith(
            "I"
        ):  # 16 bits: keep the upper eight, unless only the lower are used
            wide = np.asarray(image).astype(np.int64)
            image = Image.fromarray(
                (wide >> 8 if wide.max(initial=0) > 255 else wide).clip(0, 255).astype(np.uint8)
            )
        image = image.convert(mode)
        if size and image.size != (size[1], size[0]):
            image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise DataError(f"{name} is damaged ({_reason(e)}); remove or replace it") from e
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def _reason(e: Exception) -> str:
    return "unknown format" if isinstance(e, UnidentifiedImageError) else reason_of(e)


def _probe(source: Path | bytes, name: str) -> tuple[tuple[int, int], str] | str:
    """(height, width) and mode from the header, or the mistake."""
    try:
        with open_image(source, name) as image:
            return (image.height, image.width), "L" if image.mode in _GREY else "RGB"
    except DataError as e:
        return str(e)


def load_all(
    sources: Sequence[Path | bytes],
    names: Sequence[str],
    mode: str | None,
    size: tuple[int, int] | None,
    budget: int,
) -> tuple[Array, str]:
    """Decode all into one array [N, C, H, W]; every unreadable file, mixed size and mixed mode is reported at once."""
    blocks = [range(i, min(i + _BLOCK, len(sources))) for i in range(0, len(sources), _BLOCK)]
    with no_bomb_warning(), ThreadPoolExecutor(None if _large(sources) else 1) as pool:

        def probe(block: range) -> list[Any]:
            return [_probe(sources[i], names[i]) for i in block]

        probed = [p for block in pool.map(probe, blocks) for p in block]
        mode, size = _agree(probed, names, mode, size)
        x = allocate((len(sources), 3 if mode == "RGB" else 1, *size), np.uint8, budget)

        def fill(block: range) -> list[str]:
            mistakes = []
            for i in block:
                try:
                    x[i] = decode(sources[i], names[i], mode, size)
                except DataError as e:
                    mistakes.append(str(e))
            return mistakes

        _refuse([m for mistakes in pool.map(fill, blocks) for m in mistakes])
    return x, mode


def _large(sources: Sequence[Path | bytes]) -> bool:
    """Whether decoding dwarfs the hand-over between threads (it does not for thumbnails)."""
    first = sources[:16]
    return sum(len(s) if isinstance(s, bytes) else s.stat().st_size for s in first) > 20_000 * len(
        first
    )


def _agree(
    probed: Sequence[Any], names: Sequence[str], mode: str | None, size: tuple[int, int] | None
) -> tuple[str, tuple[int, int]]:
    """The one mode and size of all pictures, as told or as found; every mistake is reported at once."""
    mistakes = [p for p in probed if isinstance(p, str)]
    seen = [(p, n) for p, n in zip(probed, names, strict=True) if not isinstance(p, str)]
    sizes = {p[0]: n for p, n in reversed(seen)}
    modes = {p[1]: n for p, n in reversed(seen)}
    if size is None and len(sizes) > 1:
        shown = some((f"{h}×{w} ({n})" for (h, w), n in sizes.items()), 2)
        mistakes.append(
            f"the pictures have {len(sizes)} sizes, {shown}; give one with --resize, such as --resize 32"
        )
    if mode is None and len(modes) > 1:
        shown = some(f"{m} ({n})" for m, n in modes.items())
        mistakes.append(
            f"the pictures are of mixed modes, {shown}; choose with --mode RGB or --mode L"
        )
    _refuse(mistakes)
    return mode or next(iter(modes)), size or next(iter(sizes))


def _refuse(mistakes: list[str]) -> None:
    rest = len(mistakes) - 8
    if mistakes:
        raise DataError(*mistakes[:8], *([f"and {rest} more files like these"] if rest > 0 else []))


def is_picture(path: Path) -> bool:
    """Whether the name says picture and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def folders(root: Path) -> dict[str, dict[str, list[Path]]]:
    """part → class → files. Subfolders train/valid/test (any common spelling) are parts; else all is "all"."""
    subs = [d for d in sorted(root.iterdir()) if d.is_dir() and not d.name.startswith(".")]
    if subs and all(part_of(d.name) for d in subs):
        return {str(part_of(d.name)): _by_class(d) for d in subs}
    return {"all": _by_class(root)}


def _by_class(root: Path) -> dict[str, list[Path]]:
    subs = [d for d in sorted(root.iterdir()) if d.is_dir() and not d.name.startswith(".")]
    return {d.name: sorted(p for p in d.rglob("*") if is_picture(p)) for d in subs}


def load_folder(root: Path, mode: str | None, size: tuple[int, int] | None, budget: int) -> Raw:
    """A folder of pictures by class, with or without train/test above the classes."""
    found = folders(root)
    order = in_order(found)
    classes = tuple(sorted({c for part in found.values() for c in part}))
    if not classes:
        raise DataError(f"{str(root)!r} holds no data: it needs {KINDS}")
    empty = [f"{c!r}" for c in classes if not any(found[p].get(c) for p in order)]
    if empty:
        raise DataError(
            f"no picture lies in the class folder {some(empty)} of {str(root)!r}; add some or remove it"
        )
    rows = [(f, classes.index(c)) for p in order for c in classes for f in found[p].get(c, [])]
    names = [str(f.relative_to(root)) for f, _ in rows]
    x, chosen = load_all([f for f, _ in rows], names, mode, size, budget)
    y = np.array([k for _, k in rows], np.int64)
    schema = Schema("classification", tuple(x.shape[1:]), classes, mode=chosen)
    sizes = {part: sum(map(len, files.values())) for part, files in found.items()}
    valid, test = sizes.get("valid", 0), sizes.get("test", 0)
    return Raw(x, y, schema, official_test=test, official_valid=valid)


def from_records(
    records: Iterable[Any],
    names: Sequence[str],
    labels: Array,
    classes: tuple[str, ...],
    mode: str | None,
    size: tuple[int, int] | None,
    budget: int,
) -> tuple[Array, Schema]:
    """Encoded pictures (bytes) with their names and labels: what Parquet files and the hub hold.

    Decoded once: the pixels are kept in the cache under a digest of the bytes.
    """
    sources = list(records)
    digest = hashlib.blake2b(repr((mode, size)).encode(), digest_size=16)
    for source in sources:
        digest.update(source)
    kept = cache_folder("decoded") / f"{digest.hexdigest()}.npy"
    if kept.exists():
        pixels = np.load(kept, mmap_mode="c" if kept.stat().st_size > budget else None)
        return pixels, Schema(
            "classification",
            tuple(pixels.shape[1:]),
            classes,
            mode="L" if pixels.shape[1] == 1 else "RGB",
        )
    x, chosen = load_all(sources, names, mode, size, budget)
    with contextlib.suppress(StorageError), writing(kept) as f:  # a full disk is no reason to stop
        np.save(f, x)
    return x, Schema("classification", tuple(x.shape[1:]), classes, mode=chosen)
