"""Pictures by Pillow: files and bytes as arrays of one size and mode."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from danlu.data.memmap import Array, allocate, cache_folder
from danlu.errors import DataError, StorageError, count, reason_of, some
from danlu.files import writing

_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "ICO", "AVIF")
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_CAMERA = {"JPEG", "MPO", "WEBP"}  # these say how the camera was held (Pillow turns TIFF itself)
_GREY = {"1", "L", "LA", "I", "I;16", "F"}
_BLOCK = 512
_SIDES = (16, 32, 64)  # pixels that pictures of several sizes are brought to


# The filters are the process's: two threads at once would restore each other's.
_ONE = threading.RLock()


@contextlib.contextmanager
def no_bomb_warning() -> Iterator[None]:
    """Within, Pillow does not warn of large pictures: `open_image` refuses them itself."""
    with _ONE, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


@functools.cache
def _known_formats() -> tuple[str, ...]:
    """Return the formats that this Pillow has of those that we read."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


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
    """Return a picture that is not yet decoded.

    Raises DataError for what is no picture, or too large to open.
    """
    limit = Image.MAX_IMAGE_PIXELS or 2**62
    too_large = f"{name} unpacks to more than {limit // 10**6} million pixels; shrink or remove it"
    try:
        if isinstance(source, Path) and source.stat().st_size == 0:
            raise DataError(f"{name} is empty (0 bytes); remove it")
        given = io.BytesIO(source) if isinstance(source, bytes) else source
        # Only formats that pillow itself reads: for PostScript it would start another program.
        image = Image.open(given, formats=_known_formats())
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


class Decoded(NamedTuple):
    """Pictures [n, C, H, W] in a mode; kept: which of the sources they are."""

    pixels: Array
    mode: str
    kept: list[int]
    notices: tuple[str, ...]


def load_all(
    sources: Sequence[Path | bytes],
    names: Sequence[str],
    mode: str | None,
    size: tuple[int, int] | None,
    budget: int,
) -> Decoded:
    """Decode all into one array.

    Pictures that cannot be read are left out; those of several sizes or modes are brought to one.
    Raises DataError where none, or not even half, can be read.
    """
    blocks = [range(i, min(i + _BLOCK, len(sources))) for i in range(0, len(sources), _BLOCK)]
    with no_bomb_warning(), ThreadPoolExecutor(None if _large(sources) else 1) as pool:

        def probe(block: range) -> list[Any]:
            return [_probe(sources[i], names[i]) for i in block]

        probed = [found for block in pool.map(probe, blocks) for found in block]
        mode, size, notices = _agree(probed, mode, size)
        x = allocate((len(sources), 3 if mode == "RGB" else 1, *size), np.uint8, budget)

        def fill(block: range) -> dict[int, str]:
            damaged = {}
            for i in block:
                try:
                    x[i] = decode(sources[i], names[i], mode, size)
                except DataError as e:
                    damaged[i] = str(e)
            return damaged

        damaged: dict[int, str] = {}
        for of_block in pool.map(fill, blocks):
            damaged |= of_block
    kept = [i for i in range(len(sources)) if i not in damaged]
    if not damaged:
        return Decoded(x, mode, kept, notices)
    if len(damaged) * 2 >= len(sources):
        _refuse(list(damaged.values()))
    first = some(damaged.values(), 3)
    notice = f"left out: {count(len(damaged), 'picture')} that cannot be read ({first})"
    return Decoded(x[kept], mode, kept, (*notices, notice))


def _large(sources: Sequence[Path | bytes]) -> bool:
    """Whether decoding dwarfs the hand-over between threads (it does not for thumbnails)."""
    first = sources[:16]
    return sum(len(s) if isinstance(s, bytes) else s.stat().st_size for s in first) > 20_000 * len(
        first
    )


def _agree(
    probed: Sequence[Any], mode: str | None, size: tuple[int, int] | None
) -> tuple[str, tuple[int, int], tuple[str, ...]]:
    """Return the mode and size of all pictures, as told or as found, and what was decided."""
    seen = [found for found in probed if not isinstance(found, str)]
    if not seen:
        _refuse([found for found in probed if isinstance(found, str)])
    sizes = {found_size for found_size, _ in seen}
    modes = {found_mode for _, found_mode in seen}
    notices = []
    if size is None:
        size = next(iter(sizes))
        if len(sizes) > 1:
            size = _common_size(sizes)
            notices.append(
                f"pictures of {len(sizes)} sizes are brought to {size[0]}×{size[1]}; --resize "
                "chooses another size"
            )
    if mode is None:
        mode = "RGB" if "RGB" in modes else "L"
        if len(modes) > 1:
            notices.append(
                "grey pictures among coloured ones are read as RGB; --mode L makes all grey"
            )
    return mode, size, tuple(notices)


def _common_size(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Return a square as large as small pictures are, of at most 64 pixels."""
    shorter = sorted(min(size) for size in sizes)
    median = shorter[len(shorter) // 2]
    side = max(side for side in _SIDES if side <= max(median, _SIDES[0]))
    return side, side


def _refuse(mistakes: list[str]) -> None:
    rest = len(mistakes) - 8
    if mistakes:
        raise DataError(*mistakes[:8], *([f"and {rest} more files like these"] if rest > 0 else []))


def is_picture(path: Path) -> bool:
    """Whether the name says picture and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def from_records(
    records: Iterable[Any],
    names: Sequence[str],
    mode: str | None,
    size: tuple[int, int] | None,
    budget: int,
) -> tuple[Array, str, tuple[str, ...]]:
    """Return pixels, mode and notices of encoded pictures (bytes), as Parquet files hold them.

    Decoded once: the pixels are kept in the cache under a digest of the bytes. Raises DataError for
    pictures that are damaged.
    """
    sources = list(records)
    digest = hashlib.blake2b(repr((mode, size)).encode(), digest_size=16)
    for source in sources:
        digest.update(source)
    cached = cache_folder("decoded") / f"{digest.hexdigest()}.npy"
    if cached.exists():
        is_large = cached.stat().st_size > budget
        pixels = np.load(cached, mmap_mode="c" if is_large else None)
        return pixels, "L" if pixels.shape[1] == 1 else "RGB", ()
    decoded = load_all(sources, names, mode, size, budget)
    if len(decoded.kept) < len(sources):
        raise DataError(*decoded.notices)
    # What was decided must be said each time. A full disk is no reason to stop.
    if not decoded.notices:
        with contextlib.suppress(StorageError), writing(cached) as file:
            np.save(file, decoded.pixels)
    return decoded.pixels, decoded.mode, decoded.notices
