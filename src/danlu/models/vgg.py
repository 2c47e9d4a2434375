"""VGG (Simonyan and Zisserman 2015, table 1): 3×3 convolutions in five blocks with pooling.

Parameters bear the names of PyTorch's published weights (`features.0.weight`, `classifier.6.bias`).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from danlu.models import fields
from danlu.models.sizes import feature_map_size, picture_shape, scaled, uses_small_stem
from danlu.nn.layers import Dropout

FIELDS = (
    fields.HIDDEN.with_default((4096, 4096)),
    fields.BATCH_NORM,
    fields.DROPOUT.with_default(0.5),
    fields.WIDTH,
    fields.STEM,
)
NARROW_FIELDS = (
    fields.HIDDEN.with_default(()),
    fields.BATCH_NORM.with_default("before"),
    fields.DROPOUT,
    fields.WIDTH,
    fields.STEM,
)

# Convolutions in each block.
BLOCKS: dict[str, tuple[int, ...]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
    "vgg-narrow": (1, 1, 2, 2, 2),  # the notes': no hidden dense layer
}
_FILTERS = (64, 128, 256, 512, 512)


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
    """Return the row `name` for pictures [C, H, W], every number of filters times `width`.

    stem: "full" brings what the blocks leave to 7×7, as in the paper at 224 pixels; "small" leaves
    it as it is (1×1 at 32 pixels), and leaves out a pooling that nothing would be left of.
    """
    channels, *size = picture_shape(name, input_shape)
    is_small = uses_small_stem(stem, input_shape)
    layers: list[nn.Module] = []
    for convolutions, published in zip(BLOCKS[name], _FILTERS, strict=True):
        filters = scaled(published, width)
        for _ in range(convolutions):
            layers += _convolution(channels, filters, batch_norm)
            channels = filters
        # A pooling of a single pixel would leave nothing.
        if not is_small or min(size) >= 2:
            layers.append(nn.MaxPool2d(2))
            size = [n // 2 for n in size]
    features = nn.Sequential(*layers)
    # Only to refuse a picture that is too small, by the layer's name.
    feature_map_size(features.named_modules(prefix="features"), input_shape, is_small)

    parts: OrderedDict[str, nn.Module] = OrderedDict(features=features)
    if not is_small:
        parts["avgpool"] = nn.AdaptiveAvgPool2d((7, 7))
        size = [7, 7]
    parts["flatten"] = nn.Flatten()
    parts["classifier"] = head(channels * size[0] * size[1], outputs, hidden, dropout)
    return nn.Sequential(parts)


def _convolution(channels: int, filters: int, batch_norm: str) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(channels, filters, 3, padding=1)]
    if batch_norm == "before":
        layers.append(nn.BatchNorm2d(filters))
    layers.append(nn.ReLU())
    if batch_norm == "after":
        layers.append(nn.BatchNorm2d(filters))
    return layers


def head(
    n: int,
    outputs: int,
    hidden: tuple[int, ...],
    dropout: float,
    dropout_first: bool = False,
) -> nn.Sequential:
    """Return dense layers with ReLU, numbered as in the published weights.

    dropout_first: dropout comes before each hidden layer instead of after it.
    """
    layers: list[nn.Module] = []
    for q in hidden:
        dense = [nn.Linear(n, q), nn.ReLU()]
        drop = Dropout(dropout)
        if dropout_first:
            layers += [drop, *dense]
        else:
            layers += [*dense, drop]
        n = q
    layers.append(nn.Linear(n, outputs))
    return nn.Sequential(*layers)
