"""Normalisers, fitted on the training part alone: min–max, z-score, robust, PCA whitening.

Legend: C channels, F features, N examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("none", "minmax", "minmax-symmetric", "zscore", "robust", "clipped", "whiten")
CLIPPED_AT = 4.0
"""Where `clipped` cuts off, in robust standard deviations."""

_NORMAL_QUARTILES = 1.3489795  # the distance of a normal distribution's quartiles, by σ
_MOST_VALUES = 1 << 22  # of a channel or feature, of which quartiles are taken


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
        dtype = self.scale.dtype
        if self.kind == "none":
            return x.to(dtype)
        if self.matrix is not None:
            flat = x.to(dtype).flatten(1)  # [N, F]
            whitened = (flat - self.shift) @ self.matrix
            return whitened.view(x.shape)
        # A conversion makes a copy; where none is needed, the subtraction must.
        scaled = x.sub(self.shift) if x.dtype == dtype else x.to(dtype).sub_(self.shift)
        scaled = scaled.mul_(self.scale)
        if self.kind == "clipped":
            return self._clipped(scaled)
        return scaled

    def _clipped(self, scaled: Tensor) -> Tensor:
        """Return scaled values cut off at ±4; features that stay as they are (scale 1) are not."""
        cut = scaled.clamp(-CLIPPED_AT, CLIPPED_AT)
        stays = (self.scale == 1) & (self.shift == 0)
        return torch.where(stays, scaled, cut)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Normalizer:
        """Return the same on another device or in another precision."""
        matrix = self.matrix
        if matrix is not None:
            matrix = matrix.to(device, dtype)
        shift = self.shift.to(device, dtype)
        scale = self.scale.to(device, dtype)
        return Normalizer(self.kind, shift, scale, matrix)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a run keeps of it."""
        tensors = {"shift": self.shift, "scale": self.scale}
        if self.matrix is not None:
            tensors["matrix"] = self.matrix
        return {name: tensor.contiguous() for name, tensor in tensors.items()}


def fit(
    kind: str,
    chunks: Iterable[Tensor],
    shape: tuple[int, ...],
    is_measured: Sequence[bool] = (),
) -> Normalizer:
    """Fit on chunks [n, *shape] of the training part; statistics are taken in float64.

    Min–max maps the training range to [0, 1] or [−1, 1]; z-score to mean 0, variance 1; robust to
    median 0 and quartiles as far apart as those of variance 1, which outliers do not move; clipped
    cuts that off at ±4; whitening to covariance I (directions without variance become 0). A
    constant feature keeps scale 1.
    is_measured: of each feature of a table, whether it is a number; the others (0/1, numbers of
    levels) stay as they are. Without it all are.
    """
    per_channel = shape
    if len(shape) == 3:
        per_channel = (shape[0], 1, 1)
    if kind == "tokens":
        return Normalizer(kind, torch.zeros(1), torch.ones(1))
    if kind == "none":
        return Normalizer(kind, torch.zeros(per_channel), torch.ones(per_channel))
    stays = ~torch.tensor(is_measured or [True], dtype=torch.bool)  # [F], or [1] for all
    if kind == "whiten":
        return _whiten(chunks, stays)

    if kind in ("robust", "clipped"):
        shift, scale = _robust(chunks, shape)
        shift = torch.where(stays, 0.0, shift).float().view(per_channel)
        scale = torch.where(stays, 1.0, scale).float().view(per_channel)
        return Normalizer(kind, shift, scale)
    low, high, mean, std = moments(chunks, shape)
    if kind == "zscore":
        shift = mean
        scale = 1 / torch.where(std > 0, std, 1.0)
    else:
        varies = high > low
        width = torch.where(varies, high - low, 1.0)
        if kind == "minmax":
            shift = low
            scale = 1 / width
        else:
            shift = torch.where(varies, (low + high) / 2, low)
            scale = 2 / width
    shift = torch.where(stays, 0.0, shift).float().view(per_channel)
    scale = torch.where(stays, 1.0, scale).float().view(per_channel)
    return Normalizer(kind, shift, scale)


class _Moments:
    """Running sums per channel or feature, from which the moments follow.

    Sums are taken about the first chunk's mean, so that nothing cancels.
    """

    def __init__(self) -> None:
        self.n = 0
        nothing = torch.empty(0, dtype=torch.float64)
        self.low = nothing
        self.high = nothing
        zero = torch.zeros(1, dtype=torch.float64)
        self.centre = zero
        self.total = zero
        self.square = zero

    def add_bytes(self, chunk: Tensor) -> None:
        """Add bytes [n, C, H, W]: counted, not converted, which is exact and needs no copy."""
        by_channel = []
        for channel in chunk.unbind(1):
            by_channel.append(torch.bincount(channel.flatten(), minlength=256))
        counts = torch.stack(by_channel).double()  # [C, 256]
        values = torch.arange(256, dtype=torch.float64)
        seen = torch.where(counts > 0, values, torch.nan)  # [C, 256]
        self._add(
            int(counts[0].sum()),
            total=counts @ values,
            square=counts @ values**2,
            low=seen.nan_to_num(torch.inf).amin(1),  # values that never occur do not count
            high=seen.nan_to_num(-torch.inf).amax(1),
        )

    def add_floats(self, values: Tensor) -> None:
        """Add values [C or F, n]."""
        if self.n == 0:
            self.centre = values.mean(1)
        centred = values - self.centre[:, None]
        self._add(
            values.shape[1],
            total=centred.sum(1),
            square=(centred**2).sum(1),
            low=values.amin(1),
            high=values.amax(1),
        )

    def _add(self, n: int, total: Tensor, square: Tensor, low: Tensor, high: Tensor) -> None:
        if self.n:
            low = torch.minimum(self.low, low)
            high = torch.maximum(self.high, high)
        self.n += n
        self.total = self.total + total
        self.square = self.square + square
        self.low = low
        self.high = high


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
            by_channel = chunk.double().transpose(0, 1)  # [C, n, H, W]
            sums.add_floats(by_channel.flatten(1))
        else:
            sums.add_floats(chunk.double().T)
    mean = sums.total / sums.n
    variance = sums.square / sums.n - mean**2
    variance = variance.clamp_min(0)  # rounding may leave less
    # Of a constant feature rounding would leave a variance that is tiny, but not 0.
    varies = sums.high > sums.low
    std = torch.where(varies, variance.sqrt(), 0.0)
    return sums.low, sums.high, mean + sums.centre, std


def _robust(chunks: Iterable[Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return median, and 1.349 by the distance of the quartiles, per channel or feature.

    Where more than half of the values are equal, the quartiles say nothing: there it is 1 by the
    standard deviation of what is not cut off by the quantiles 1 and 99 %, or 1. Of very many values
    an even sample is taken.
    """
    by_channel = []
    for chunk in chunks:
        values = chunk.double().transpose(0, 1).flatten(1) if len(shape) == 3 else chunk.double().T
        by_channel.append(values)
    values = torch.cat(by_channel, 1)  # [C or F, n]
    every = -(-values.shape[1] // _MOST_VALUES)
    ordered = values[:, ::every].sort(1).values
    n = ordered.shape[1]
    first, low, median, high, last = (
        ordered[:, round(q * (n - 1))] for q in (0.01, 0.25, 0.5, 0.75, 0.99)
    )
    inner = ordered.clamp(first[:, None], last[:, None]).std(1, correction=0)
    spread = torch.where(high > low, (high - low) / _NORMAL_QUARTILES, inner)
    return median, 1 / torch.where(spread > 0, spread, 1.0)


def _whiten(chunks: Iterable[Tensor], stays: Tensor) -> Normalizer:
    """Return W = V Λ^(−½) of the training covariance V Λ Vᵀ.

    stays: features [F] that W passes on as they are.
    """
    n = 0
    centre = None  # sums are taken about the first chunk's mean: no cancellation
    for chunk in chunks:
        rows = chunk.flatten(1).double()  # [n, F]
        if centre is None:
            centre = rows.mean(0)
            total = torch.zeros_like(centre)
            square = centre.new_zeros(len(centre), len(centre))
        rows = rows - centre
        n += len(rows)
        total += rows.sum(0)
        square += rows.T @ rows
    assert centre is not None  # the training part is never empty
    offset = total / n
    covariance = square / n - torch.outer(offset, offset)  # [F, F]
    stays = stays.expand(len(centre))
    # What stays has no covariance with the rest, and is put back in its place below.
    covariance[stays] = 0.0
    covariance[:, stays] = 0.0
    values, vectors = torch.linalg.eigh(covariance)
    inverse_root = values.clamp_min(1e-300).rsqrt()
    # Directions without variance would be blown up to noise of size 1.
    largest = values[-1]
    has_variance = values > largest * 1e-10
    scale = torch.where(has_variance, inverse_root, 0.0)
    mean = centre + offset
    matrix = vectors * scale
    if stays.any():
        matrix = _passing_on(matrix, has_variance, stays)
        mean = torch.where(stays, 0.0, mean)
    return Normalizer("whiten", mean.float(), torch.ones(1), matrix.float())


def _passing_on(matrix: Tensor, has_variance: Tensor, stays: Tensor) -> Tensor:
    """Return W with columns of the identity for the features that stay.

    Where they stand is free: a feature that stays has left a direction without variance.
    """
    passing = torch.zeros_like(matrix)
    passing[:, ~stays] = _placed(matrix[:, has_variance], int((~stays).sum()))
    passing[stays, stays] = 1.0
    return passing


def _placed(columns: Tensor, wanted: int) -> Tensor:
    """Return as many columns as are wanted, those missing of zeros."""
    missing = wanted - columns.shape[1]
    return torch.cat((columns, columns.new_zeros(len(columns), missing)), 1)
