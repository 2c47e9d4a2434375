"""Examples as pictures: PNG for pages, half-block characters for terminals."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def as_image(x: Tensor) -> Image.Image:
    """Return one example [C, H, W]; values that do not span 0…255 are stretched to it."""
    pixels = x.detach().cpu().numpy()
    if pixels.dtype != np.uint8:
        low = float(pixels.min(initial=0))
        high = float(pixels.max(initial=1))
        # A picture of one value has no range.
        span = max(high - low, 1e-9)
        stretched = (pixels - low) * (255 / span)
        pixels = stretched.astype(np.uint8)
    if len(pixels) == 3:
        height_first = pixels.transpose(1, 2, 0)  # [H, W, C], as Pillow has it
        return Image.fromarray(height_first)
    return Image.fromarray(pixels[0])


def data_uri(x: Tensor) -> str:
    """Return the example as a PNG in a data: address."""
    buffer = io.BytesIO()
    as_image(x).save(buffer, "PNG")
    png = buffer.getvalue()
    encoded = base64.b64encode(png).decode()
    return f"data:image/png;base64,{encoded}"


def half_blocks(images: list[Tensor], height: int = 14) -> list[str]:
    """Return pictures side by side as lines of "▀" with 24-bit colours; two pixels a character."""
    # A character is as high as two pixels.
    lines = [""] * (height // 2)
    for x in images:
        picture = as_image(x).convert("RGB")
        scaled_width = picture.width * height / picture.height
        width = max(1, round(scaled_width))
        small = picture.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(small)  # [height, width, 3]
        for k in range(height // 2):
            upper_row = pixels[2 * k]
            lower_row = pixels[2 * k + 1]
            for upper, lower in zip(upper_row, lower_row, strict=True):
                lines[k] += _half_block(upper, lower)
            lines[k] += "\x1b[0m "
    return lines


def _half_block(upper: NDArray[np.uint8], lower: NDArray[np.uint8]) -> str:
    """Return a character that is one colour above and another below."""
    foreground = ";".join(map(str, upper))
    background = ";".join(map(str, lower))
    return f"\x1b[38;2;{foreground};48;2;{background}m▀"
