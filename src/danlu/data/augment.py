"""Augmentations of batches on the device they lie on: every example draws its own parameters.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmenter:
    """Random changes of training images, or of the tokens of texts; zero or False is off.

    flip: left–right for half of the images. rotate: up to ± degrees. scale: factor within
    1 ± scale. shift: up to ± pixels either way. crop: pad that many pixels, cut the old size at a
    whole-pixel place. noise: standard deviation of Gaussian noise, in units of the normalised
    input. word_dropout: of tokens, the probability that each is read as `<unk>`. cutout: side in
    pixels of a square set to 0 after normalising. brightness: factor within 1 ± brightness. invert:
    probability that light and dark change places. mixup: α of the weight λ ~ Beta(α, α) with which
    examples of a batch are mixed with others of it.
    """

    flip: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    crop: int = 0
    noise: float = 0.0
    word_dropout: float = 0.0
    cutout: int = 0
    brightness: float = 0.0
    invert: float = 0.0
    mixup: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether raw pixels change, in place or value."""
        return bool(self.flip or self.crop or self.warps or self.brightness or self.invert)

    @property
    def warps(self) -> bool:
        """Whether pixels are interpolated."""
        return bool(self.rotate or self.scale or self.shift)

    def move(self, x: Tensor, g: torch.Generator) -> Tensor:
        """Return raw values x [B, C, H, W] with pixels changed; outside the image is 0."""
        b = len(x)
        if self.flip:
            # Drawn on the CPU, so that a GPU trains on the same pictures.
            is_flipped = torch.rand(b, generator=g) < 0.5
            x = flip(x, is_flipped)
        if self.crop:
            places = 2 * self.crop + 1
            corner = torch.randint(0, places, (b, 2), generator=g)
            x = crop(x, corner, self.crop)
        if self.warps:
            u = torch.rand(4, b, generator=g, dtype=torch.float64)
            u = u * 2 - 1  # U(−1, 1)
            degrees = u[0] * self.rotate
            factor = 1 + u[1] * self.scale
            shift = u[2:].T * self.shift
            x = warp(x, degrees, factor, shift)
        if self.brightness:
            u = torch.rand(b, generator=g, dtype=torch.float64) * 2 - 1
            x = x * _of_picture(1 + u * self.brightness, x)
        if self.invert:
            is_inverted = torch.rand(b, generator=g) < self.invert
            x = invert(x, is_inverted)
        return x

    def hide(self, x: Tensor, g: torch.Generator) -> Tensor:
        """Return normalised pictures x [B, C, H, W] with a square of each set to 0, the mean."""
        if not self.cutout:
            return x
        u = torch.rand(2, len(x), generator=g, dtype=torch.float64)
        return cut_out(x, u, self.cutout)

    def add_noise(self, x: Tensor, g: torch.Generator) -> Tensor:
        """Return normalised values x with noise added."""
        if not self.noise:
            return x
        noise = torch.randn(x.shape, generator=g, dtype=x.dtype)
        return x + self.noise * noise.to(x.device)


def mixture(alpha: float, size: int, g: torch.Generator) -> tuple[float, Tensor]:
    """Return λ ~ Beta(α, α), and for each of `size` examples the one to mix it with.

    An example x becomes λ·x + (1 − λ)·x[partner], and so does its target (Zhang et al. 2018).
    """
    seed = int(torch.randint(2**31, (), generator=g))
    weight = float(np.random.default_rng(seed).beta(alpha, alpha))
    return weight, torch.randperm(size, generator=g)


def _of_picture(values: Tensor, x: Tensor) -> Tensor:
    """Return values [B] so that they go with pictures x [B, C, H, W]."""
    return values.to(x.device, x.dtype).view(-1, 1, 1, 1)


def invert(x: Tensor, mask: Tensor) -> Tensor:
    """Return x with light and dark exchanged in the images of the mask [B], in their own range."""
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    of_image = mask.to(x.device).view(-1, 1, 1, 1)
    return torch.where(of_image, low + high - x, x)


def cut_out(x: Tensor, u: Tensor, side: int) -> Tensor:
    """Return x with a square of each image set to 0, about a centre at u [2, B] of its sides.

    Squares may reach over the edge (DeVries and Taylor 2017).
    """
    h, w = x.shape[2:]
    inside = []
    for place, length in zip(u, (h, w), strict=True):
        first = (place * length).floor().long() - side // 2  # [B]
        offset = torch.arange(length) - first[:, None]  # [B, length]
        inside.append((offset >= 0) & (offset < side))
    rows, columns = inside
    hidden = rows[:, None, :, None] & columns[:, None, None, :]  # [B, 1, H, W]
    return x.masked_fill(hidden.to(x.device), 0.0)


def flip(x: Tensor, mask: Tensor) -> Tensor:
    """Return x with the images of the mask [B] mirrored left to right."""
    of_image = mask.to(x.device).view(-1, 1, 1, 1)  # [B, 1, 1, 1]
    mirrored = x.flip(3)
    return torch.where(of_image, mirrored, x)


def crop(x: Tensor, corner: Tensor, pad: int) -> Tensor:
    """Return x padded with zeros, [H, W] cut out from the corner (row, column) [B, 2] of each."""
    b, _, h, w = x.shape
    corner = corner.to(x.device)
    top = corner[:, :1]
    left = corner[:, 1:]
    rows = top + torch.arange(h, device=x.device)  # [B, H]
    columns = left + torch.arange(w, device=x.device)  # [B, W]
    padded = F.pad(x, (pad, pad, pad, pad))  # [B, C, H + 2·pad, W + 2·pad]
    # One gather for all images: with channels last, a pixel is one index.
    pixels = padded.permute(0, 2, 3, 1)  # [B, H, W, C]
    image = torch.arange(b, device=x.device).view(b, 1, 1)
    row = rows.view(b, h, 1)
    column = columns.view(b, 1, w)
    cut = pixels[image, row, column]  # [B, H, W, C]
    return cut.permute(0, 3, 1, 2).contiguous()


def warp(x: Tensor, degrees: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """Rotate anticlockwise by degrees [B], enlarge by factor [B], shift (right, down) [B, 2].

    Bilinear, about the centre, zeros outside. The grid maps output to input, so the inverse of the
    motion is applied.
    """
    h, w = x.shape[2:]
    angle = degrees * (math.pi / 180)
    cos = angle.cos() / factor
    sin = angle.sin() / factor
    dx = shift[:, 0] * (2 / w)
    dy = shift[:, 1] * (2 / h)
    # Normalised coordinates stretch x by w/2 and y by h/2: a turn is one only after undoing that.
    sin_to_x = sin * (h / w)
    sin_to_y = sin * (w / h)
    moved_x = -cos * dx + sin_to_x * dy
    moved_y = -sin_to_y * dx - cos * dy
    to_x = torch.stack((cos, -sin_to_x, moved_x), 1)  # [B, 3]
    to_y = torch.stack((sin_to_y, cos, moved_y), 1)
    matrix = torch.stack((to_x, to_y), 1)  # [B, 2, 3]
    matrix = matrix.to(x.device, x.dtype)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)  # [B, H, W, 2]
    return F.grid_sample(
        x,
        grid,
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
