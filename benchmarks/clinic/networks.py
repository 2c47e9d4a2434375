"""Networks with one mistake each, as people make them."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Sound(nn.Module):
    """Two hidden layers, without a mistake."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(math.prod(input_shape), 48)
        self.second = nn.Linear(48, 32)
        self.out = nn.Linear(32, outputs)

    def hidden(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x.flatten(1)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x))


class SoftmaxOverBatch(Sound):
    """The softmax of an attention goes over the batch."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        return self.out(h * torch.softmax(h, 0) * len(h))


class MeanOverBatch(Sound):
    """A normalisation by hand takes the batch for the features."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        return self.out((h - h.mean(0)) / (h.std(0) + 1e-3))


class AlwaysDrops(Sound):
    """F.dropout without training=self.training."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.dropout(self.hidden(x), 0.5))


class SoftmaxBeforeLoss(Sound):
    """A softmax before a loss that has its own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.out(self.hidden(x)), 1)


class RectifiedOutputs(Sound):
    """An activation after the last layer."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.out(self.hidden(x)))


class _Swish(torch.autograd.Function):
    """x·σ(x), with a term of the derivative forgotten."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * torch.sigmoid(x)


class WrongBackward(Sound):
    """A layer of one's own whose backward pass lacks a term."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(_Swish.apply(self.second(_Swish.apply(self.first(x.flatten(1))))))


class FrozenLayers(Sound):
    """Layers frozen that were never trained."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__(input_shape, outputs)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=0.3)
            for p in layer.parameters():
                p.requires_grad = False
