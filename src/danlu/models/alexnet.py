"""AlexNet (Krizhevsky et al. 2012) and ZFNet (Zeiler and Fergus 2014).

Five convolutions, three dense layers. As in the notes, without the local response normalisation,
which has no parameters and was later found to bring nothing (Simonyan and Zisserman 2015, section
4.1). Parameters bear the names of PyTorch's published weights.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from danlu.models import fields
from danlu.models.sizes import feature_map_size, picture_shape, scaled, uses_small_stem
from danlu.models.vgg import head

FIELDS = (
    fields.HIDDEN.with_default((4096, 4096)),
    fields.DROPOUT.with_default(0.5),
    fields.WIDTH,
    fields.STEM,
)


@dataclass(frozen=True)
class Row:
    """Kernel, stride and padding of the first convolution, filters of all five, and the rest.

    groups: of the second, fourth and fifth (the paper's network was spread over two GPUs).
    pool_padding: of the first two poolings. small: the first convolution for small pictures.
    """

    first: tuple[int, int, int] = (11, 4, 2)
    filters: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    groups: int = 1
    second_stride: int = 1
    pool_padding: int = 0
    small: tuple[int, int, int] = (5, 1, 2)
    dropout_first: bool = False


ROWS = {
    "alexnet": Row(groups=2),
    "alexnet-ungrouped": Row(),
    # Krizhevsky 2014, which PyTorch's published weights are of.
    "alexnet-torch": Row(filters=(64, 192, 384, 256, 256), dropout_first=True),
    # As the notes have it, and as the lecture has it that they follow.
    "zfnet": Row(
        first=(7, 2, 1),
        filters=(96, 256, 512, 512, 1024),
        second_stride=2,
        pool_padding=1,
        small=(3, 1, 1),
    ),
    "zfnet-lecture": Row(
        first=(7, 2, 1),
        filters=(96, 256, 512, 1024, 512),
        second_stride=2,
        pool_padding=1,
        small=(3, 1, 1),
    ),
}


def build(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    hidden: tuple[int, ...],
    dropout: float,
    width: float,
    stem: str,
) -> nn.Module:
    """Return the row `name` for pictures [C, H, W], every number of filters times `width`.

    stem: "full" takes large steps at first and brings what the convolutions leave to 6×6, as at
    224 pixels; "small" begins with a convolution of stride 1 and leaves the rest as it is.
    """
    row, is_small = ROWS[name], uses_small_stem(stem, input_shape)
    channels, *_ = picture_shape(name, input_shape)
    features = _features(row, channels, width, is_small)
    named = features.named_modules(prefix="features")
    size = feature_map_size(named, input_shape, is_small)

    parts: OrderedDict[str, nn.Module] = OrderedDict(features=features)
    if not is_small:
        parts["avgpool"] = nn.AdaptiveAvgPool2d((6, 6))
        size = (6, 6)
    parts["flatten"] = nn.Flatten()
    n = scaled(row.filters[-1], width, row.groups) * size[0] * size[1]
    parts["classifier"] = head(n, outputs, hidden, dropout, row.dropout_first)
    return nn.Sequential(parts)


def _features(row: Row, channels: int, width: float, is_small: bool) -> nn.Sequential:
    # Groups must divide the filters, whatever the width.
    first, second, *rest = (scaled(q, width, row.groups) for q in row.filters)
    kernel, stride, padding = row.first
    second_stride = row.second_stride
    if is_small:
        kernel, stride, padding = row.small
        second_stride = 1
    # The paper keeps the size at stride 1, and ZFNet lets it shrink.
    second_padding = 2 if second_stride == 1 else 0
    layers: list[nn.Module] = [
        nn.Conv2d(channels, first, kernel, stride, padding),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, row.pool_padding),
        nn.Conv2d(first, second, 5, second_stride, second_padding, groups=row.groups),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, row.pool_padding),
    ]
    before = second
    for i, filters in enumerate(rest):
        groups = 1 if i == 0 else row.groups  # the third sees both halves
        layers.append(nn.Conv2d(before, filters, 3, padding=1, groups=groups))
        layers.append(nn.ReLU())
        before = filters
    layers.append(nn.MaxPool2d(3, 2))
    return nn.Sequential(*layers)
