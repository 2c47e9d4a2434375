"""Size formulas of layers: what comes out of what goes in, and what it costs."""

from __future__ import annotations

from danlu.errors import ModelError


def window(n: int, f: int, stride: int = 1, padding: int = 0) -> int:
    """(N + 2P − F)/stride + 1, rounded down: outputs of a convolution or pooling along one axis."""
    return (n + 2 * padding - f) // stride + 1


def check_window(layer: str, size: tuple[int, int], f: int, padding: int, image: tuple[int, ...]) -> None:
    """Refuse a window larger than what reaches it."""
    if min(size) + 2 * padding < f:
        whole = "×".join(map(str, image[1:]))
        raise ModelError(
            f"`{layer}` needs an input of at least {f - 2 * padding}×{f - 2 * padding}, but gets {size[0]}×{size[1]} "
            f"from images of {whole}; use larger images (--resize), a smaller `model.kernel_size`, or another model"
        )
