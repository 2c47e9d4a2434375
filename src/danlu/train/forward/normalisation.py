"""Batch and layer normalisation of M networks by explicit passes.

Legend: M networks, B examples, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from danlu.train.forward.bound_layer import BoundLayer, ForwardBackward

aten = torch.ops.aten


def batch_norm(layer: BoundLayer) -> ForwardBackward:
    """On [B, C, H, W], where C are the channels of all networks in a row."""
    module = layer.module
    tensors = layer.tensors
    w = tensors["weight"].view(-1)
    b = tensors["bias"].view(-1)
    mean = tensors["running_mean"].view(-1)
    var = tensors["running_var"].view(-1)
    batches = tensors["num_batches_tracked"]
    dw = layer.grads["weight"].view(-1)
    db = layer.grads["bias"].view(-1)
    momentum = module.momentum
    eps = module.eps

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if module.training:
            # PyTorch counts batches for a cumulative average; the checkpoint keeps the count.
            batches.add_(1)
        # centre and 1/σ of the batch are kept for the pass backward.
        out, centre, scale = aten.native_batch_norm(
            x, w, b, mean, var, module.training, momentum, eps
        )
        return out, (x, centre, scale)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        x, centre, scale = saved
        by_input, by_w, by_b = aten.native_batch_norm_backward(
            g.contiguous(),
            x,
            w,
            mean,
            var,
            centre,
            scale,
            module.training,
            eps,
            # By position, as names cost as much again as a small layer's arithmetic.
            [wants_input, True, True],
        )
        dw.copy_(by_w)
        db.copy_(by_b)
        return by_input if wants_input else g

    return ForwardBackward(forward, backward)


def batch_norm_of_columns(layer: BoundLayer) -> ForwardBackward:
    """On [M, C, …, B], which to the kernel is one example of M·C channels and many pixels."""
    inner = batch_norm(layer)
    layout = layer.layout

    def as_one_example(x: Tensor) -> Tensor:
        members, channels = x.shape[:2]  # M, C
        return x.reshape(1, members * channels, -1)

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        # Statistics differ between networks, so from here on each has its own copy of the batch.
        x = layout.per_member(x)
        out, saved = inner.forward(as_one_example(x))
        return out.view(x.shape), saved

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        by_input = inner.backward(as_one_example(g), saved, wants_input)
        return by_input.view(g.shape)

    return ForwardBackward(forward, backward)


def layer_norm_of_columns(layer: BoundLayer) -> ForwardBackward:
    """On [M, n, B]: every example by the mean and variance of its own n values."""
    layout = layer.layout
    w = layer.tensors["weight"].unsqueeze(2)  # [M, n, 1]
    b = layer.tensors["bias"].unsqueeze(2)
    dw = layer.grads["weight"]
    db = layer.grads["bias"]
    eps = layer.module.eps

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        x = layout.per_member(x)
        variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)  # [M, 1, B]
        scale = (variance + eps).rsqrt()
        standard = (x - mean) * scale
        return torch.addcmul(b, standard, w), (standard, scale)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        standard, scale = saved
        torch.sum(g, 2, out=db)
        torch.sum(g * standard, 2, out=dw)
        if not wants_input:
            return g
        by_standard = g * w
        along = (by_standard * standard).mean(1, keepdim=True)
        by_input: Tensor = by_standard - by_standard.mean(1, keepdim=True) - standard * along
        return by_input.mul_(scale)

    return ForwardBackward(forward, backward)
