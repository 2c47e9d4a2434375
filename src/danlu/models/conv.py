"""The notes' small convolutional networks: [convolution, activation, pooling]…, then dense layers.

Legend: c channels, h × w pixels.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from danlu.models import fields
from danlu.models.dense import Layers, add_block, add_dense
from danlu.models.sizes import check_window, picture_shape, window

FIELDS = (
    fields.CHANNELS,
    fields.HIDDEN.with_default((50,)),
    fields.KERNEL_SIZE,
    fields.PADDING,
    fields.ACTIVATION,
    fields.BATCH_NORM,
    fields.DROPOUT,
)
WIDE_FIELDS = (
    fields.CHANNELS.with_default((6, 16)),
    fields.HIDDEN.with_default((120, 84)),
    *FIELDS[2:],
)


def build(
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    channels: tuple[int, ...],
    kernel_size: int,
    padding: int,
    hidden: tuple[int, ...],
    activation: str,
    batch_norm: str,
    dropout: float,
) -> nn.Module:
    """Return convolutions that each halve the picture by 2×2 pooling, then a dense network.

    A picture too small for the windows gets half a window of zeros around it. Raises ModelError
    when the input is not a picture, or too small even so.
    """
    layers: Layers = OrderedDict()
    c, h, w = picture_shape("cnn", input_shape)
    if not _fits(min(h, w), len(channels), kernel_size, padding):
        padding = max(padding, kernel_size // 2)
    for k, q in enumerate(channels, 1):
        # Refused here, by the layer's name: PyTorch would fail at the first batch.
        check_window(f"conv{k}", (h, w), kernel_size, padding, input_shape)
        conv = nn.Conv2d(c, q, kernel_size, padding=padding)
        norm = nn.BatchNorm2d(q) if batch_norm != "none" else None
        add_block(layers, str(k), conv, norm, activation, batch_norm, "conv")
        h, w = (window(n, kernel_size, padding=padding) for n in (h, w))
        check_window(f"pool{k}", (h, w), 2, 0, input_shape)
        layers[f"pool{k}"] = nn.MaxPool2d(2)
        c, h, w = q, window(h, 2, 2), window(w, 2, 2)
    layers["flatten"] = nn.Flatten()
    first = len(channels) + 1
    add_dense(layers, c * h * w, outputs, hidden, activation, batch_norm, dropout, 1, first)
    return nn.Sequential(layers)


def _fits(side: int, convolutions: int, kernel_size: int, padding: int) -> bool:
    """Whether a picture is as large as every window that reaches it."""
    for _ in range(convolutions):
        side = window(side, kernel_size, padding=padding)
        if side < 2:
            return False
        side = window(side, 2, 2)
    return True
