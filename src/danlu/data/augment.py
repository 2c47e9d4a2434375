"""Augmentations of batches on the device they lie on: every example draws its own parameters.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmenter:
    """Random changes of training images, or of the tokens of texts; zero or False is off.

    flip: left–right for half of the images. rotate: up to ± degrees. scale: factor within
    1 ± scale. shift: up to ± pixels either way. crop: pad that many pixels, cut the old size at a
    whole-pixel place. noise: standard deviation of Gaussian noise, in units of the normalised
    input. word_dropout: of tokens, the probability that each is read as `<unk>`.
    """

    flip: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    crop: int = 0
    noise: float = 0.0
    word_dropout: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether pixels change place."""
        return bool(self.flip or self.crop or self.warps)

    @property
    def warps(self) -> bool:
        """Whether pixels are interpolated."""
        return bool(self.rotate or self.scale or self.shift)

    def move(self, x: Tensor, g: torch.Generator) -> Tensor:
        """Return raw values x [B, C, H, W] with pixels moved; outside the image is 0."""
        b = len(x)
        if self.flip:
            x = flip(x, torch.rand(b, generator=g) < 0.5)
        if self.crop:
            x = crop(x, torch.randint(0, 2 * self.crop + 1, (b, 2), generator=g), self.crop)
        if self.warps:
            u = torch.rand(4, b, generator=g, dtype=torch.float64) * 2 - 1
            x = warp(x, u[0] * self.rotate, 1 + u[1] * self.scale, u[2:].T * self.shift)
        return x

    def add_noise(self, x: Tensor, g: torch.Generator) -> Tensor:
        """Return normalised values x with noise added."""
        if not self.noise:
            return x
        return x + self.noise * torch.randn(x.shape, generator=g, dtype=x.dtype).to(x.device)


def flip(x: Tensor, mask: Tensor) -> Tensor:
    """Return x with the images of the mask [B] mirrored left to right."""
    return torch.where(mask.to(x.device)[:, None, None, None], x.flip(3), x)


def crop(x: Tensor, corner: Tensor, pad: int) -> Tensor:
    """Return x padded with zeros, [H, W] cut out from the corner (row, column) [B, 2] of each."""
    b, _, h, w = x.shape
    corner = corner.to(x.device)
    rows = corner[:, :1] + torch.arange(h, device=x.device)  # [B, H]
    columns = corner[:, 1:] + torch.arange(w, device=x.device)  # [B, W]
    padded = F.pad(x, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    batch = torch.arange(b, device=x.device)[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def warp(x: Tensor, degrees: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """Rotate anticlockwise by degrees [B], enlarge by factor [B], shift (right, down) [B, 2].

    Bilinear, about the centre, zeros outside. The grid maps output to input, so the inverse of the
    motion is applied.
    """
    h, w = x.shape[2:]
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos() / factor, angle.sin() / factor
    dx, dy = shift[:, 0] * (2 / w), shift[:, 1] * (2 / h)
    # Normalised coordinates stretch x by w/2 and y by h/2: a turn is one only after undoing that.
    to_x = torch.stack((cos, -sin * (h / w), -cos * dx + sin * (h / w) * dy), 1)
    to_y = torch.stack((sin * (w / h), cos, -sin * (w / h) * dx - cos * dy), 1)
    matrix = torch.stack((to_x, to_y), 1).to(x.device, x.dtype)  # [B, 2, 3]
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
