"""AlexNet (Krizhevsky et al. 2012) and ZFNet (Zeiler and Fergus 2014): five convolutions, three dense layers.

As in the notes, without the local response normalisation, which has no parameters and was later found to bring
nothing (Simonyan and Zisserman 2015, section 4.1). Parameters bear the names of PyTorch's published weights.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from danlu.models.sizes import picture, scaled, small, through
from danlu.models.vgg import head


@dataclass(frozen=True)
class Row:
    """kernel, stride and padding of the first convolution; filters of all five; stride of the second."""

    first: tuple[int, int, int] = (11, 4, 2)
    filters: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    groups: int = 1  # of the second, fourth and fifth: the paper's network was spread over two GPUs
    second_stride: int = 1
    pool_padding: int = 0  # of the first two poolings
    small: tuple[int, int, int] = (5, 1, 2)  # the first convolution for pictures of up to 64 pixels
    dropout_first: bool = False


ROWS = {
    "alexnet": Row(groups=2),
    "alexnet-ungrouped": Row(),
    "alexnet-torch": Row(
        filters=(64, 192, 384, 256, 256), dropout_first=True
    ),  # Krizhevsky 2014; PyTorch's weights
    "zfnet": Row(
        (7, 2, 1), (96, 256, 512, 512, 1024), second_stride=2, pool_padding=1, small=(3, 1, 1)
    ),  # as the notes have it
    "zfnet-lecture": Row(
        (7, 2, 1), (96, 256, 512, 1024, 512), second_stride=2, pool_padding=1, small=(3, 1, 1)
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
    """The row `name` for pictures [C, H, W], every number of filters times `width`.

    stem: "full" takes large steps at first and brings what the convolutions leave to 6×6, as at 224 pixels; "small" begins
    with a convolution of stride 1 and leaves the rest as it is.
    """
    row, is_small = ROWS[name], small(stem, input_shape)
    c, *_ = picture(name, input_shape)
    kernel, stride, padding = row.small if is_small else row.first
    a, b, *rest = (scaled(q, width, row.groups) for q in row.filters)

    def pool() -> nn.MaxPool2d:
        return nn.MaxPool2d(3, 2, row.pool_padding)

    layers: list[nn.Module] = [nn.Conv2d(c, a, kernel, stride, padding), nn.ReLU(), pool()]
    second = 1 if is_small else row.second_stride
    layers += [
        nn.Conv2d(a, b, 5, second, 2 if second == 1 else 0, groups=row.groups),
        nn.ReLU(),
        pool(),
    ]
    for i, q in enumerate(rest):
        layers += [nn.Conv2d(b, q, 3, padding=1, groups=row.groups if i else 1), nn.ReLU()]
        b = q
    body = nn.Sequential(*layers, nn.MaxPool2d(3, 2))
    size = through(body.named_modules(prefix="features"), input_shape, is_small)
    parts: OrderedDict[str, nn.Module] = OrderedDict(features=body)
    if not is_small:
        parts["avgpool"] = nn.AdaptiveAvgPool2d((6, 6))
        size = (6, 6)
    parts["flatten"] = nn.Flatten()
    parts["classifier"] = head(b * size[0] * size[1], outputs, hidden, dropout, row.dropout_first)
    return nn.Sequential(parts)
