"""The notes' small convolutional networks: [convolution, activation, max pooling]…, then dense layers.

Legend: c channels, h × w pixels, k kernel size.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from danlu.models.dense import Layers, add_block, add_dense
from danlu.models.sizes import check_window, picture, window


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
    """Convolutions halve the picture by 2×2 pooling each; then as a dense network."""
    layers: Layers = OrderedDict()
    c, h, w = picture("cnn", input_shape)
    for k, q in enumerate(channels, 1):
        check_window(f"conv{k}", (h, w), kernel_size, padding, input_shape)
        norm = nn.BatchNorm2d(q) if batch_norm != "none" else None
        add_block(
            layers,
            str(k),
            nn.Conv2d(c, q, kernel_size, padding=padding),
            norm,
            activation,
            batch_norm,
            "conv",
        )
        h, w = window(h, kernel_size, padding=padding), window(w, kernel_size, padding=padding)
        check_window(f"pool{k}", (h, w), 2, 0, input_shape)
        layers[f"pool{k}"] = nn.MaxPool2d(2)
        c, h, w = q, window(h, 2, 2), window(w, 2, 2)
    layers["flatten"] = nn.Flatten()
    add_dense(
        layers,
        c * h * w,
        outputs,
        hidden,
        activation,
        batch_norm,
        dropout,
        1,
        first=len(channels) + 1,
    )
    return nn.Sequential(layers)
