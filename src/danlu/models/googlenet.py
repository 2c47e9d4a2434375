"""GoogLeNet (Szegedy et al. 2015, table 1): a stem, nine inceptions, one dense layer, two auxiliary classifiers.

Parameters bear the names of PyTorch's published weights. Legend: c channels in, q channels out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from danlu.models.sizes import picture, scaled, small, through
from danlu.nn.layers import Dropout


@dataclass(frozen=True)
class Row:
    """How an inception is made."""

    reduced: bool = True  # 1×1 convolutions before the larger ones and after the pooling; without them: the naive form
    fives: tuple[int, ...] = (5,)  # kernels that stand for the 5×5
    batch_norm: bool = False
    last_pool: int = 3  # window of the pooling before the last two inceptions


ROWS = {
    "googlenet": Row(),
    "googlenet-naive": Row(reduced=False),
    "googlenet-factorised": Row(
        fives=(3, 3)
    ),  # small kernels for large (Szegedy et al. 2016, section 3.1)
    "googlenet-torch": Row(
        fives=(3,), batch_norm=True, last_pool=2
    ),  # PyTorch's weights have 3×3 for 5×5
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


class Conv(nn.Module):
    """A convolution that keeps the size (at stride 1), batch normalisation where the row has it, ReLU."""

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
        return cast(Tensor, self.relu(x if self.bn is None else self.bn(x)))


class Inception(nn.Module):
    """Four branches side by side, their channels in a row: 1×1, 3×3, 5×5, pooling."""

    def __init__(self, c: int, filters: tuple[int, ...], row: Row) -> None:
        super().__init__()
        one, three_from, three, five_from, five, pooled = filters

        def conv(c: int, q: int, kernel: int) -> Conv:
            return Conv(c, q, kernel, batch_norm=row.batch_norm)

        def branch(reduce: int, q: int, kernels: tuple[int, ...]) -> nn.Sequential:
            layers, n = ([conv(c, reduce, 1)], reduce) if row.reduced else ([], c)
            layers += [conv(n, n, kernel) for kernel in kernels[:-1]]
            return nn.Sequential(*layers, conv(n, q, kernels[-1]))

        self.branch1 = conv(c, one, 1)
        self.branch2 = branch(three_from, three, (3,))
        self.branch3 = branch(five_from, five, row.fives)
        pool = nn.MaxPool2d(3, 1, 1)
        self.branch4 = (
            nn.Sequential(pool, conv(c, pooled, 1)) if row.reduced else nn.Sequential(pool)
        )
        self.channels = one + three + five + (pooled if row.reduced else c)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, c, H, W] → [B, channels, H, W]."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Auxiliary(nn.Module):
    """A classifier on the way, so that the gradient reaches the layers before it by a shorter path."""

    def __init__(self, c: int, outputs: int, width: float, batch_norm: bool) -> None:
        super().__init__()
        q, hidden = scaled(128, width), scaled(1024, width)
        self.pool = nn.AdaptiveAvgPool2d(
            4
        )  # at 224 pixels the paper's 5×5 of stride 3 gives 4×4 as well
        self.conv = Conv(c, q, 1, batch_norm=batch_norm)
        self.flatten, self.fc1, self.relu = (
            nn.Flatten(),
            nn.Linear(16 * q, hidden),
            nn.ReLU(inplace=True),
        )
        self.dropout, self.fc2 = Dropout(0.7), nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, c, H, W] → logits [B, K]."""
        x = self.relu(self.fc1(self.flatten(self.conv(self.pool(x)))))
        return cast(Tensor, self.fc2(self.dropout(x)))


class GoogLeNet(nn.Module):
    """In training it gives the logits of all its classifiers, the auxiliary ones after its own; else its own alone.

    `auxiliary_weights`: what each auxiliary one's loss counts.
    """

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
        norm, first, last = row.batch_norm, scaled(64, width), scaled(192, width)
        self.conv1 = Conv(c, first, 3, 1, norm) if is_small else Conv(c, first, 7, 2, norm)
        self.maxpool1 = nn.Identity() if is_small else nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.conv3 = (
            Conv(first, first, 1, batch_norm=norm),
            Conv(first, last, 3, batch_norm=norm),
        )
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(row.last_pool, 2, ceil_mode=True)
        self.auxiliary_weights = (auxiliary, auxiliary) if auxiliary else ()
        c = last
        heads: dict[str, nn.Module] = {}
        for name, filters in INCEPTIONS.items():
            if auxiliary and name in ("4b", "4e"):
                heads[f"aux{len(heads) + 1}"] = Auxiliary(c, outputs, width, norm)
            inception = Inception(c, tuple(scaled(q, width) for q in filters), row)
            self.add_module(f"inception{name}", inception)
            c = inception.channels
        for name, head in heads.items():
            self.add_module(name, head)
        self.avgpool, self.flatten, self.dropout = (
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            Dropout(dropout),
        )
        self.fc = nn.Linear(c, outputs)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """x [B, C, H, W] → logits [B, K], in training with those of the auxiliary classifiers."""
        aside: list[Tensor] = []
        x = self.maxpool2(self.conv3(self.conv2(self.maxpool1(self.conv1(x)))))
        for name in INCEPTIONS:
            if name in ("4a", "5a"):
                x = (self.maxpool3 if name == "4a" else self.maxpool4)(x)
            if self.training and self.auxiliary_weights and name in ("4b", "4e"):
                aside.append(getattr(self, f"aux{len(aside) + 1}")(x))
            x = getattr(self, f"inception{name}")(x)
        out = cast(Tensor, self.fc(self.dropout(self.flatten(self.avgpool(x)))))
        return (out, *aside) if aside else out


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
    """The row `name` for pictures [C, H, W], every number of filters times `width`.

    auxiliary: what the loss of each auxiliary classifier counts in training; 0 leaves them out. stem: "full" begins with a
    7×7 convolution and a pooling, both of stride 2; "small" with a 3×3 convolution.
    """
    c, *_ = picture(name, input_shape)
    is_small = small(stem, input_shape)
    model = GoogLeNet(c, outputs, ROWS[name], dropout, auxiliary, width, is_small)
    pools = ((f"maxpool{k}", model.get_submodule(f"maxpool{k}")) for k in range(1, 5))
    through(
        [("conv1", model.conv1.conv), *pools], input_shape, is_small
    )  # inceptions leave the size as it is
    return model
