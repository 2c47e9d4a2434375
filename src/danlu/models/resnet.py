"""Residual networks (He et al. 2016, table 1).

The stride of a bottleneck is on its 3×3 convolution, as in PyTorch's networks, whose published
weights' names the parameters bear. Legend: c channels in, q channels out.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from danlu.models import fields
from danlu.models.sizes import picture_shape, scaled, uses_small_stem

FIELDS = (fields.WIDTH, fields.STEM)

# Whether blocks are bottlenecks, and how many each of the four stages has.
ROWS: dict[str, tuple[bool, tuple[int, int, int, int]]] = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}
_WIDTHS = (64, 128, 256, 512)


def _conv(c: int, q: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c, q, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    """relu(F(x) + x) with F two 3×3 convolutions, or a bottleneck.

    A bottleneck is 1×1, 3×3 and 1×1 to four times the width.
    """

    def __init__(self, c: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        if bottleneck:
            q = 4 * width
            shapes = [(c, width, 1, 1), (width, width, 3, stride), (width, q, 1, 1)]
        else:
            q = width
            shapes = [(c, width, 3, stride), (width, q, 3, 1)]
        self.depth = len(shapes)
        for k, (inputs, outputs, kernel, step) in enumerate(shapes, 1):
            self.add_module(f"conv{k}", _conv(inputs, outputs, kernel, step))
            self.add_module(f"bn{k}", nn.BatchNorm2d(outputs))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or c != q:
            # The shortcut must have the shape of what it is added to.
            self.downsample = nn.Sequential(_conv(c, q, 1, stride), nn.BatchNorm2d(q))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, c, H, W] → [B, q, H/stride, W/stride]."""
        out = x
        for k in range(1, self.depth + 1):
            conv = getattr(self, f"conv{k}")
            bn = getattr(self, f"bn{k}")
            out = bn(conv(out))
            if k < self.depth:
                out = self.relu(out)
        shortcut = x
        if self.downsample is not None:
            shortcut = self.downsample(x)
        return cast(Tensor, self.relu(out + shortcut))


class ResNet(nn.Module):
    """A stem, four stages of blocks, the average over all places, one dense layer."""

    def __init__(
        self,
        c: int,
        outputs: int,
        bottleneck: bool,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        is_small: bool,
    ) -> None:
        super().__init__()
        first = widths[0]
        if is_small:
            self.conv1 = _conv(c, first, 3)
        else:
            self.conv1 = _conv(c, first, 7, 2)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if is_small else nn.MaxPool2d(3, 2, 1)
        c = first
        for stage, (width, n) in enumerate(zip(widths, blocks, strict=True), 1):
            layers = []
            for i in range(n):
                # The first block of a stage halves the picture. Not so in the first stage: the stem
                # has halved a large picture, and a small one has nothing to spare.
                halves = stage > 1 and i == 0
                layers.append(Block(c, width, 2 if halves else 1, bottleneck))
                c = 4 * width if bottleneck else width
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(c, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] → logits [B, K]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.maxpool(x)
        for stage in range(1, 5):
            layer = getattr(self, f"layer{stage}")
            x = layer(x)
        x = self.flatten(self.avgpool(x))  # [B, c]
        return cast(Tensor, self.fc(x))


def build(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    width: float,
    stem: str,
) -> nn.Module:
    """Return the row `name` for pictures [C, H, W], every number of filters times `width`.

    stem: "full" begins with a 7×7 convolution and a pooling, both of stride 2; "small" with a 3×3
    convolution.
    """
    c, *_ = picture_shape(name, input_shape)
    bottleneck, blocks = ROWS[name]
    widths = tuple(scaled(filters, width) for filters in _WIDTHS)
    is_small = uses_small_stem(stem, input_shape)
    return ResNet(c, outputs, bottleneck, blocks, widths, is_small)
