"""Size formulas of layers: what comes out of what goes in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from danlu.errors import ModelError

_SMALL_PICTURE = 64  # pixels up to which networks made for 224 begin with another stem


def window(n: int, f: int, stride: int = 1, padding: int = 0) -> int:
    """Return (N + 2P − F)/stride + 1, rounded down.

    So many outputs has a convolution or pooling along one axis.
    """
    room = n + 2 * padding - f
    return room // stride + 1


def pair(size: Any) -> tuple[int, int]:
    """Return a size along both axes; layers keep one number, or two."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def check_window(
    layer: str,
    size: tuple[int, int],
    f: int,
    padding: int,
    image: tuple[int, ...],
    also: str = " a smaller `model.kernel_size`,",
) -> None:
    """Raise ModelError for a window larger than what reaches it; also: what else may help."""
    if min(size) + 2 * padding >= f:
        return
    needed = f - 2 * padding
    pixels = "×".join(map(str, image[1:]))
    raise ModelError(
        f"`{layer}` needs an input of at least {needed}×{needed}, but gets {size[0]}×{size[1]} "
        f"from images of {pixels}; use larger images (--resize),{also} or another model"
    )


def scaled(filters: int, width: float, multiple: int = 1) -> int:
    """Return a number of filters times `width`, rounded to a multiple."""
    multiples = round(filters * width / multiple)
    return max(1, multiples) * multiple


def picture_shape(name: str, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return [C, H, W] of the input. Raises ModelError when it is not a picture."""
    if len(input_shape) != 3:
        shape = "×".join(map(str, input_shape))
        raise ModelError(
            f"{name!r} needs pictures [C, H, W], but the examples have shape {shape}; "
            "try model=dense"
        )
    return input_shape


def uses_small_stem(stem: str, input_shape: tuple[int, ...]) -> bool:
    """Whether a network made for large pictures begins with the stem for small ones."""
    if stem == "auto":
        return max(input_shape[1:]) <= _SMALL_PICTURE
    return stem == "small"


def feature_map_size(
    layers: Iterable[tuple[str, nn.Module]], input_shape: tuple[int, ...], is_small: bool
) -> tuple[int, int]:
    """Return the size that named convolutions and poolings leave.

    Raises ModelError for a window that is too large.
    """
    _, height, width = input_shape
    also = "" if is_small else " `model.stem=small`,"
    for name, layer in layers:
        if not isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            continue
        f, _ = pair(layer.kernel_size)
        stride, _ = pair(layer.stride)
        padding, _ = pair(layer.padding)
        # Rounding up: the last window may stick out by all but one of its steps.
        rounding = stride - 1 if getattr(layer, "ceil_mode", False) else 0
        check_window(name, (height, width), f - rounding, padding, input_shape, also)
        height = window(height + rounding, f, stride, padding)
        width = window(width + rounding, f, stride, padding)
    return height, width
