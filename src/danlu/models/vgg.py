"""VGG (Simonyan and Zisserman 2015, table 1): 3×3 convolutions in five blocks, each halved by 2×2 pooling.

Parameters bear the names of PyTorch's published weights (`features.0.weight`, `classifier.6.bias`).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from danlu.models.sizes import picture, scaled, small, through
from danlu.nn.layers import Dropout

BLOCKS: dict[str, tuple[int, ...]] = {  # convolutions in each block
    "vgg-11": (1, 1, 2, 2, 2),
    "vgg-13": (2, 2, 2, 2, 2),
    "vgg-16": (2, 2, 3, 3, 3),
    "vgg-19": (2, 2, 4, 4, 4),
    "vgg-narrow": (1, 1, 2, 2, 2),  # the notes': no hidden dense layer
}
_WIDTHS = (64, 128, 256, 512, 512)


def build(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    hidden: tuple[int, ...],
    batch_norm: str,
    dropout: float,
    width: float,
    stem: str,
) -> nn.Module:
    """The row `name` for pictures [C, H, W], every number of filters times `width`.

    stem: "full" brings what the blocks leave to 7×7, as in the paper at 224 pixels; "small" leaves it as it is (1×1 at
    32 pixels), and leaves out a pooling that nothing would be left of.
    """
    c, *size = picture(name, input_shape)
    is_small = small(stem, input_shape)
    features: list[nn.Module] = []
    for convolutions, filters in zip(BLOCKS[name], _WIDTHS, strict=True):
        q = scaled(filters, width)
        for _ in range(convolutions):
            features.append(nn.Conv2d(c, q, 3, padding=1))
            features += [nn.BatchNorm2d(q)] if batch_norm == "before" else []
            features.append(nn.ReLU())
            features += [nn.BatchNorm2d(q)] if batch_norm == "after" else []
            c = q
        if not is_small or min(size) >= 2:
            features.append(nn.MaxPool2d(2))
            size = [n // 2 for n in size]
    body = nn.Sequential(*features)
    through(body.named_modules(prefix="features"), input_shape, is_small)
    parts: OrderedDict[str, nn.Module] = OrderedDict(features=body)
    if not is_small:
        parts["avgpool"] = nn.AdaptiveAvgPool2d((7, 7))
        size = [7, 7]
    parts["flatten"] = nn.Flatten()
    parts["classifier"] = head(c * size[0] * size[1], outputs, hidden, dropout)
    return nn.Sequential(parts)


def head(
    n: int, outputs: int, hidden: tuple[int, ...], dropout: float, dropout_first: bool = False
) -> nn.Sequential:
    """Dense layers with ReLU, and dropout after each hidden one (or before it), numbered as in the published weights."""
    layers: list[nn.Module] = []
    for q in hidden:
        layers += [Dropout(dropout)] if dropout_first else []
        layers += [nn.Linear(n, q), nn.ReLU()]
        layers += [] if dropout_first else [Dropout(dropout)]
        n = q
    return nn.Sequential(*layers, nn.Linear(n, outputs))
