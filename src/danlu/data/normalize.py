"""Normalisers, fitted on the training part alone: min–max, z-score, PCA whitening.

Legend: C channels, F features, N examples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("none", "minmax", "minmax-symmetric", "zscore", "whiten")


@dataclass(frozen=True)
class Normalizer:
    """x ↦ (x − shift)·scale, or (x − shift) W when a `matrix` W [F, F] is there.

    Images share shift and scale per channel ([C, 1, 1]); tables have one per feature ([F]);
    whitening flattens to F features and restores the shape.
    """

    kind: str
    shift: Tensor
    scale: Tensor
    matrix: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return a float batch [N, …], tokens as they are; the argument is left as it is."""
        if self.kind == "tokens":
            return x
        if self.kind == "none":
            return x.to(self.scale.dtype)
        if self.matrix is not None:
            flat = x.to(self.scale.dtype).flatten(1)
            return ((flat - self.shift) @ self.matrix).view(x.shape)
        if x.dtype == self.scale.dtype:
            return x.sub(self.shift).mul_(self.scale)
        return x.to(self.scale.dtype).sub_(self.shift).mul_(self.scale)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Normalizer:
        """Return the same on another device or in another precision."""
        matrix = None if self.matrix is None else self.matrix.to(device, dtype)
        shift, scale = self.shift.to(device, dtype), self.scale.to(device, dtype)
        return Normalizer(self.kind, shift, scale, matrix)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a run keeps of it."""
        kept = {"shift": self.shift, "scale": self.scale, "matrix": self.matrix}
        return {name: tensor.contiguous() for name, tensor in kept.items() if tensor is not None}


def fit(kind: str, chunks: Iterable[Tensor], shape: tuple[int, ...]) -> Normalizer:
    """Fit on chunks [n, *shape] of the training part; statistics are taken in float64.

    Min–max maps the training range to [0, 1] or [−1, 1]; z-score to mean 0, variance 1; whitening
    to covariance I (directions without variance become 0). A constant feature keeps scale 1.
    """
    per_channel = (shape[0], 1, 1) if len(shape) == 3 else shape
    if kind == "tokens":
        return Normalizer(kind, torch.zeros(1), torch.ones(1))
    if kind == "none":
        return Normalizer(kind, torch.zeros(per_channel), torch.ones(per_channel))
    if kind == "whiten":
        return _whiten(chunks)
    low, high, mean, std = moments(chunks, shape)
    if kind == "zscore":
        shift, scale = mean, 1 / torch.where(std > 0, std, 1.0)
    else:
        width = torch.where(high > low, high - low, 1.0)
        scale = (1 if kind == "minmax" else 2) / width
        shift = low if kind == "minmax" else torch.where(high > low, (low + high) / 2, low)
    return Normalizer(kind, shift.float().view(per_channel), scale.float().view(per_channel))


class _Moments:
    """Running sums per channel or feature, from which the moments follow.

    Sums are taken about the first chunk's mean, so that nothing cancels.
    """

    def __init__(self) -> None:
        self.n = 0
        self.low = self.high = torch.empty(0, dtype=torch.float64)
        self.centre = self.total = self.square = torch.zeros(1, dtype=torch.float64)

    def add_bytes(self, chunk: Tensor) -> None:
        """Add bytes [n, C, H, W]: counted, not converted, which is exact and needs no copy."""
        by_channel = [torch.bincount(c.flatten(), minlength=256) for c in chunk.unbind(1)]
        counts = torch.stack(by_channel).double()
        values = torch.arange(256, dtype=torch.float64)
        seen = torch.where(counts > 0, values, torch.nan)
        low = seen.nan_to_num(torch.inf).amin(1)
        high = seen.nan_to_num(-torch.inf).amax(1)
        self._add(int(counts[0].sum()), counts @ values, counts @ values**2, low, high)

    def add_floats(self, values: Tensor) -> None:
        """Add values [C or F, n]."""
        if self.n == 0:
            self.centre = values.mean(1)
        low, high = values.amin(1), values.amax(1)
        values = values - self.centre[:, None]
        self._add(values.shape[1], values.sum(1), (values**2).sum(1), low, high)

    def _add(self, n: int, total: Tensor, square: Tensor, low: Tensor, high: Tensor) -> None:
        is_first = self.n == 0
        self.n += n
        self.total, self.square = self.total + total, self.square + square
        self.low = low if is_first else torch.minimum(self.low, low)
        self.high = high if is_first else torch.maximum(self.high, high)


def moments(
    chunks: Iterable[Tensor], shape: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return minimum, maximum, mean and standard deviation per channel or feature."""
    sums = _Moments()
    is_image = len(shape) == 3
    for chunk in chunks:
        if is_image and chunk.dtype == torch.uint8:
            sums.add_bytes(chunk)
        elif is_image:
            sums.add_floats(chunk.double().transpose(0, 1).flatten(1))
        else:
            sums.add_floats(chunk.double().T)
    mean = sums.total / sums.n
    std = (sums.square / sums.n - mean**2).clamp_min(0).sqrt()
    std = torch.where(sums.high > sums.low, std, 0.0)
    return sums.low, sums.high, mean + sums.centre, std


def _whiten(chunks: Iterable[Tensor]) -> Normalizer:
    """Return W = V Λ^(−½) of the training covariance V Λ Vᵀ."""
    n, centre = 0, None  # sums are taken about the first chunk's mean: no cancellation
    for chunk in chunks:
        rows = chunk.flatten(1).double()
        if centre is None:
            centre = rows.mean(0)
            total, square = torch.zeros_like(centre), centre.new_zeros(len(centre), len(centre))
        rows = rows - centre
        n += len(rows)
        total += rows.sum(0)
        square += rows.T @ rows
    assert centre is not None  # the training part is never empty
    offset = total / n
    values, vectors = torch.linalg.eigh(square / n - torch.outer(offset, offset))
    inverse_root = values.clamp_min(1e-300).rsqrt()
    scale = torch.where(values > values[-1] * 1e-10, inverse_root, 0.0)
    mean = centre + offset
    return Normalizer("whiten", mean.float(), torch.ones(1), (vectors * scale).float())
