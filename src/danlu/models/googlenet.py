"""GoogLeNet (Szegedy et al. 2015, table 1).

A stem, nine inceptions, one dense layer, two auxiliary classifiers. Parameters bear the names of
PyTorch's published weights. Legend: c channels in, q channels out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from danlu.models import fields
from danlu.models.sizes import feature_map_size, picture_shape, scaled, uses_small_stem
from danlu.nn.layers import Dropout
from danlu.nn.protocols import HasAuxiliaryClassifiers

FIELDS = (fields.DROPOUT.with_default(0.4), fields.AUXILIARY, fields.WIDTH, fields.STEM)


@dataclass(frozen=True)
class Row:
    """How an inception is made.

    reduced: 1×1 convolutions before the larger ones and after the pooling; without them it is the
    naive form. fives: kernels that stand for the 5×5. last_pool: window of the pooling before the
    last two inceptions.
    """

    reduced: bool = True
    fives: tuple[int, ...] = (5,)
    batch_norm: bool = False
    last_pool: int = 3


ROWS = {
    "googlenet": Row(),
    "googlenet-naive": Row(reduced=False),
    # Small kernels for large ones (Szegedy et al. 2016, section 3.1).
    "googlenet-factorised": Row(fives=(3, 3)),
    # PyTorch's weights have 3×3 for 5×5.
    "googlenet-torch": Row(fives=(3,), batch_norm=True, last_pool=2),
}
# Filters of 1×1; of 3×3, after a reduction to; of 5×5, after a reduction to; after the pooling.
INCEPTIONS: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_AUXILIARY_BEFORE = ("4b", "4e")


class Conv(nn.Module):
    """A convolution that keeps the size (at stride 1), batch normalisation by option, ReLU."""

    def __init__(
        self, c: int, q: int, kernel: int, stride: int = 1, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, q, kernel, stride, kernel // 2, bias=not batch_norm)
        self.bn = nn.BatchNorm2d(q, eps=0.001) if batch_norm else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, c, H, W] → [B, q, H/stride, W/stride]."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return cast(Tensor, self.relu(x))


class Inception(nn.Module):
    """Four branches side by side, their channels in a row: 1×1, 3×3, 5×5, pooling."""

    def __init__(self, c: int, filters: tuple[int, ...], row: Row) -> None:
        super().__init__()
        one, reduce_three, three, reduce_five, five, pooled = filters
        self.branch1 = Conv(c, one, 1, batch_norm=row.batch_norm)
        self.branch2 = _branch(c, reduce_three, three, (3,), row)
        self.branch3 = _branch(c, reduce_five, five, row.fives, row)
        pool: list[nn.Module] = [nn.MaxPool2d(3, 1, 1)]
        if row.reduced:
            pool.append(Conv(c, pooled, 1, batch_norm=row.batch_norm))
        else:
            pooled = c  # pooling alone leaves the channels as they are
        self.branch4 = nn.Sequential(*pool)
        self.channels = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        """x [B, c, H, W] → [B, channels, H, W]."""
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], 1)


def _branch(c: int, reduce: int, q: int, kernels: tuple[int, ...], row: Row) -> nn.Sequential:
    """Return convolutions with these kernels, after a reduction to so many channels."""
    layers = []
    if row.reduced:
        layers.append(Conv(c, reduce, 1, batch_norm=row.batch_norm))
        c = reduce
    *inner, last = kernels
    for kernel in inner:
        layers.append(Conv(c, c, kernel, batch_norm=row.batch_norm))
    layers.append(Conv(c, q, last, batch_norm=row.batch_norm))
    return nn.Sequential(*layers)


class Auxiliary(nn.Module):
    """A classifier half-way, so that the gradient reaches the first layers by a shorter path."""

    def __init__(self, c: int, outputs: int, width: float, batch_norm: bool) -> None:
        super().__init__()
        q, hidden = scaled(128, width), scaled(1024, width)
        # At 224 pixels the paper's 5×5 window of stride 3 gives 4×4 as well.
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.conv = Conv(c, q, 1, batch_norm=batch_norm)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(16 * q, hidden)
        self.relu = nn.ReLU(inplace=True)
        # The paper's, whatever the classifier's own is.
        self.dropout = Dropout(0.7)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, c, H, W] → logits [B, K]."""
        x = self.flatten(self.conv(self.pool(x)))  # [B, 16·q]
        x = self.relu(self.fc1(x))
        return cast(Tensor, self.fc2(self.dropout(x)))


class GoogLeNet(nn.Module, HasAuxiliaryClassifiers):
    """Returns the logits of its own classifier; in training, those of the others after it."""

    def __init__(
        self,
        c: int,
        outputs: int,
        row: Row,
        dropout: float,
        auxiliary: float,
        width: float,
        is_small: bool,
    ) -> None:
        super().__init__()
        norm = row.batch_norm
        first = scaled(64, width)
        last = scaled(192, width)
        if is_small:
            self.conv1 = Conv(c, first, 3, 1, norm)
            self.maxpool1: nn.Module = nn.Identity()
        else:
            self.conv1 = Conv(c, first, 7, 2, norm)
            self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = Conv(first, first, 1, batch_norm=norm)
        self.conv3 = Conv(first, last, 3, batch_norm=norm)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(row.last_pool, 2, ceil_mode=True)

        self.auxiliary_weights = (auxiliary, auxiliary) if auxiliary else ()
        heads: dict[str, nn.Module] = {}
        c = last
        for name, filters in INCEPTIONS.items():
            if auxiliary and name in _AUXILIARY_BEFORE:
                heads[f"aux{len(heads) + 1}"] = Auxiliary(c, outputs, width, norm)
            inception = Inception(c, tuple(scaled(q, width) for q in filters), row)
            self.add_module(f"inception{name}", inception)
            c = inception.channels
        # After the inceptions, as in the published weights.
        for name, auxiliary_head in heads.items():
            self.add_module(name, auxiliary_head)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = Dropout(dropout)
        self.fc = nn.Linear(c, outputs)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """x [B, C, H, W] → logits [B, K], in training with those of the auxiliary classifiers."""
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        auxiliary: list[Tensor] = []
        # They are there for the gradient alone; prediction is faster without.
        runs_auxiliary = self.training and self.auxiliary_weights
        for name in INCEPTIONS:
            if name == "4a":
                x = self.maxpool3(x)
            if name == "5a":
                x = self.maxpool4(x)
            if runs_auxiliary and name in _AUXILIARY_BEFORE:
                auxiliary_head = getattr(self, f"aux{len(auxiliary) + 1}")
                auxiliary.append(auxiliary_head(x))
            inception = getattr(self, f"inception{name}")
            x = inception(x)
        x = self.flatten(self.avgpool(x))
        out = cast(Tensor, self.fc(self.dropout(x)))
        if auxiliary:
            return (out, *auxiliary)
        return out


def build(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    dropout: float,
    auxiliary: float,
    width: float,
    stem: str,
) -> nn.Module:
    """Return the row `name` for pictures [C, H, W], every number of filters times `width`.

    auxiliary: weight of each auxiliary classifier's loss in training; 0 leaves them out. stem:
    "full" begins with a 7×7 convolution and a pooling, both of stride 2; "small" with a 3×3 one.
    """
    c, *_ = picture_shape(name, input_shape)
    is_small = uses_small_stem(stem, input_shape)
    model = GoogLeNet(c, outputs, ROWS[name], dropout, auxiliary, width, is_small)
    # Inceptions leave the size as it is, so the poolings decide.
    pools = [(f"maxpool{k}", model.get_submodule(f"maxpool{k}")) for k in range(1, 5)]
    feature_map_size([("conv1", model.conv1.conv), *pools], input_shape, is_small)
    return model
