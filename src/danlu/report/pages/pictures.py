"""Examples as pictures: PNG for pages, half-block characters for terminals."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image
from torch import Tensor


def as_image(x: Tensor) -> Image.Image:
    """One example [C, H, W]; values that do not span 0…255 are stretched to it."""
    pixels = x.detach().cpu().numpy()
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min(initial=0)), float(pixels.max(initial=1))
        pixels = ((pixels - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) != 3 else pixels.transpose(1, 2, 0))


def data_uri(x: Tensor) -> str:
    """The example as a PNG in a data: address."""
    buffer = io.BytesIO()
    as_image(x).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def half_blocks(images: list[Tensor], height: int = 14) -> list[str]:
    """Pictures side by side as lines of "▀" with 24-bit colours; two pixels a character."""
    rows: list[str] = [""] * (height // 2)
    for x in images:
        picture = as_image(x).convert("RGB")
        width = max(1, round(picture.width * height / picture.height))
        p = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        for r in range(height // 2):
            for top, low in zip(p[2 * r], p[2 * r + 1], strict=True):
                rows[r] += f"\x1b[38;2;{top[0]};{top[1]};{top[2]};48;2;{low[0]};{low[1]};{low[2]}m▀"
            rows[r] += "\x1b[0m "
    return rows
