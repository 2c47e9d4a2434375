"""Normalisers, fitted on the training part alone: min–max, z-score, PCA whitening."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("none", "minmax", "minmax-symmetric", "zscore", "whiten")


@dataclass(frozen=True)
class Normalizer:
    """x ↦ (x − shift)·scale, or (x − shift) W when a `matrix` W [F, F] is there.

    Shapes: images share shift and scale per channel ([C, 1, 1]); tables have one per feature ([F]);
    whitening flattens to F features and restores the shape.
    """

    kind: str
    shift: Tensor
    scale: Tensor
    matrix: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """A float batch [N, …] (of tokens: as they are); the argument is left as it is."""
        if self.kind == "tokens":
            return x
        if self.kind == "none":
            return x.to(self.scale.dtype)
        if self.matrix is not None:
            return ((x.to(self.scale.dtype).flatten(1) - self.shift) @ self.matrix).view(x.shape)
        if x.dtype == self.scale.dtype:
            return x.sub(self.shift).mul_(self.scale)
        return x.to(self.scale.dtype).sub_(self.shift).mul_(self.scale)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Normalizer:
        """The same on another device or in another precision."""
        matrix = None if self.matrix is None else self.matrix.to(device, dtype)
        return Normalizer(
            self.kind, self.shift.to(device, dtype), self.scale.to(device, dtype), matrix
        )

    def tensors(self) -> dict[str, Tensor]:
        """What a run keeps of it."""
        kept = {"shift": self.shift, "scale": self.scale, "matrix": self.matrix}
        return {k: v.contiguous() for k, v in kept.items() if v is not None}


def fit(kind: str, chunks: Iterable[Tensor], shape: tuple[int, ...]) -> Normalizer:
    """Fit on chunks [n, *shape] of the training part; statistics are taken in float64.

    Min–max maps the training range to [0, 1] or [−1, 1]; z-score to mean 0, variance 1; whitening to
    covariance I (directions without variance become 0). A constant feature keeps scale 1.
    """
    per = (shape[0], 1, 1) if len(shape) == 3 else shape
    if kind == "tokens":
        return Normalizer(kind, torch.zeros(1), torch.ones(1))
    if kind == "none":
        return Normalizer(kind, torch.zeros(per), torch.ones(per))
    if kind == "whiten":
        return _whiten(chunks)
    low, high, mean, std = moments(chunks, shape)
    if kind == "zscore":
        shift, scale = mean, 1 / torch.where(std > 0, std, 1.0)
    else:
        width = torch.where(high > low, high - low, 1.0)
        scale = (1 if kind == "minmax" else 2) / width
        shift = low if kind == "minmax" else torch.where(high > low, (low + high) / 2, low)
    return Normalizer(kind, shift.float().view(per), scale.float().view(per))


def moments(
    chunks: Iterable[Tensor], shape: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Minimum, maximum, mean and standard deviation per channel or feature."""
    n, low, high = 0, None, None
    total = square = centre = torch.zeros(
        1, dtype=torch.float64
    )  # sums are taken about the first chunk's mean: no cancellation
    for chunk in chunks:
        if len(shape) == 3 and chunk.dtype == torch.uint8:
            # Bytes are counted, not converted: exact and without a float copy.
            counts = torch.stack(
                [torch.bincount(c.flatten(), minlength=256) for c in chunk.unbind(1)]
            ).double()
            v = torch.arange(256, dtype=torch.float64)
            n += int(counts[0].sum())
            total = total + counts @ v
            square = square + counts @ v**2
            seen = torch.where(counts > 0, v, torch.nan)
            lo, hi = seen.nan_to_num(torch.inf).amin(1), seen.nan_to_num(-torch.inf).amax(1)
        else:
            flat = (
                chunk.double().transpose(0, 1).flatten(1) if len(shape) == 3 else chunk.double().T
            )
            if n == 0:
                centre = flat.mean(1)
            lo, hi = flat.amin(1), flat.amax(1)
            flat = flat - centre[:, None]
            n += flat.shape[1]
            total, square = total + flat.sum(1), square + (flat**2).sum(1)
        low = lo if low is None else torch.minimum(low, lo)
        high = hi if high is None else torch.maximum(high, hi)
    assert low is not None and high is not None  # the training part is never empty
    mean = total / n
    std = (square / n - mean**2).clamp_min(0).sqrt()
    std = torch.where(high > low, std, 0.0)
    return low, high, mean + centre, std


def _whiten(chunks: Iterable[Tensor]) -> Normalizer:
    """W = V Λ^(−½) of the training covariance V Λ Vᵀ."""
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
    off = total / n
    mean = centre + off
    values, vectors = torch.linalg.eigh(square / n - torch.outer(off, off))
    inverse = torch.where(values > values[-1] * 1e-10, values.clamp_min(1e-300).rsqrt(), 0.0)
    return Normalizer("whiten", mean.float(), torch.ones(1), (vectors * inverse).float())
