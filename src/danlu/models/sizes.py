"""Size formulas of layers: what comes out of what goes in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from danlu.errors import ModelError

_SMALL = 64  # pixels up to which networks made for 224 begin with another stem


def window(n: int, f: int, stride: int = 1, padding: int = 0) -> int:
    """(N + 2P − F)/stride + 1, rounded down: outputs of a convolution or pooling along one axis."""
    return (n + 2 * padding - f) // stride + 1


def pair(v: Any) -> tuple[int, int]:
    """A size along both axes, as layers keep it: one number, or two."""
    return (v, v) if isinstance(v, int) else (v[0], v[1])


def check_window(
    layer: str,
    size: tuple[int, int],
    f: int,
    padding: int,
    image: tuple[int, ...],
    way: str = " a smaller `model.kernel_size`,",
) -> None:
    """Refuse a window larger than what reaches it; way: what else may help."""
    if min(size) + 2 * padding < f:
        whole = "×".join(map(str, image[1:]))
        raise ModelError(
            f"`{layer}` needs an input of at least {f - 2 * padding}×{f - 2 * padding}, but gets {size[0]}×{size[1]} "
            f"from images of {whole}; use larger images (--resize),{way} or another model"
        )


def scaled(q: int, width: float, multiple: int = 1) -> int:
    """A number of filters times `width`, as a whole multiple."""
    return max(1, round(q * width / multiple)) * multiple


def picture(name: str, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """[C, H, W] of the input. Raises ModelError when it is none."""
    if len(input_shape) != 3:
        shape = "×".join(map(str, input_shape))
        raise ModelError(
            f"{name!r} needs pictures [C, H, W], but the examples are of shape {shape}; try model=dense"
        )
    return input_shape


def small(stem: str, input_shape: tuple[int, ...]) -> bool:
    """Whether a network made for large pictures begins with the stem for small ones."""
    return stem == "small" or (stem == "auto" and max(input_shape[1:]) <= _SMALL)


def through(
    layers: Iterable[tuple[str, nn.Module]], input_shape: tuple[int, ...], is_small: bool
) -> tuple[int, int]:
    """The size that named convolutions and poolings leave. Raises ModelError for too large a window."""
    size = (input_shape[1], input_shape[2])
    way = "" if is_small else " `model.stem=small`,"
    for name, layer in layers:
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            f, s, p = pair(layer.kernel_size)[0], pair(layer.stride)[0], pair(layer.padding)[0]
            up = s - 1 if getattr(layer, "ceil_mode", False) else 0  # rounded up instead of down
            check_window(name, size, f - up, p, input_shape, way)
            size = (window(size[0] + up, f, s, p), window(size[1] + up, f, s, p))
    return size
