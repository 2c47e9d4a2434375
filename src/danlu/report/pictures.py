"""Examples as pictures: PNG for pages, half-block characters for terminals."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image
from torch import Tensor


def as_image(x: Tensor) -> Image.Image:
    """Return one example [C, H, W]; values that do not span 0…255 are stretched to it."""
    pixels = x.detach().cpu().numpy()
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min(initial=0)), float(pixels.max(initial=1))
        pixels = ((pixels - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    is_rgb = len(pixels) == 3
    return Image.fromarray(pixels.transpose(1, 2, 0) if is_rgb else pixels[0])


def data_uri(x: Tensor) -> str:
    """Return the example as a PNG in a data: address."""
    buffer = io.BytesIO()
    as_image(x).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def half_blocks(images: list[Tensor], height: int = 14) -> list[str]:
    """Return pictures side by side as lines of "▀" with 24-bit colours; two pixels a character."""
    lines = [""] * (height // 2)
    for x in images:
        picture = as_image(x).convert("RGB")
        width = max(1, round(picture.width * height / picture.height))
        pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        for k in range(height // 2):
            for (r, g, b), (r2, g2, b2) in zip(pixels[2 * k], pixels[2 * k + 1], strict=True):
                lines[k] += f"\x1b[38;2;{r};{g};{b};48;2;{r2};{g2};{b2}m▀"
            lines[k] += "\x1b[0m "
    return lines
