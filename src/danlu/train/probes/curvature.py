"""Curvature and spread of gradients: what the level "full" measures beside the rest.

Both need nothing but gradients, so they work for whatever can be trained.

Legend: M networks, P examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from danlu.rng import stream
from danlu.train.forward import Stack
from danlu.train.probes.probed_networks import ProbedNetworks
from danlu.train.probes.sample import ProbeSample

_ITERATIONS = 16
_STEP = {torch.float32: 1e-2, torch.float64: 1e-5}  # of the differences, along a unit vector
_GROUPS = 16  # whose gradients are compared


def sharpness(networks: ProbedNetworks, half: ProbeSample, steps: Sequence[int]) -> Tensor:
    """Return the Hessian's eigenvalue of largest size [M], by power iteration.

    Products Hv are two-sided differences of gradients, in training mode with the same masks.
    """
    stack, sums = networks.stack, networks.sums
    weights = stack.theta.clone()
    epsilon = _STEP[weights.dtype]
    v = _unit(_start(stack), stack, networks)
    eigenvalue = torch.zeros(stack.members, dtype=torch.float64)
    for _ in range(_ITERATIONS):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                stack.theta.copy_(weights + sign * epsilon * v)
            networks.set_streams(steps)
            networks.backpropagate(half)
            sides.append(stack.grad.clone())
        product = (sides[0] - sides[1]) / (2 * epsilon)
        eigenvalue = sums.product(v, product)
        v = _unit(product, stack, networks)
    return eigenvalue


def _start(stack: Stack) -> Tensor:
    """Return a random vector of the stack's layout, the same for every network."""
    generator = stream(0, "probe", "sharpness")
    vector = torch.zeros_like(stack.theta)
    for view in stack.views(vector).values():
        drawn = torch.randn(view.shape[1:], generator=generator, dtype=torch.float64)
        view.copy_(drawn.expand(view.shape))
    return vector


def _unit(vector: Tensor, stack: Stack, networks: ProbedNetworks) -> Tensor:
    """Return a vector with each network's part of norm 1."""
    norms = networks.sums.square(vector).sqrt().clamp_min(1e-300)  # [M]
    unit = vector.clone()
    for view in stack.views(unit).values():
        trailing = (1,) * (view.ndim - 1)
        view.div_(norms.to(view.dtype).view(-1, *trailing))
    return unit


def spread(networks: ProbedNetworks, half: ProbeSample, steps: Sequence[int]) -> Tensor:
    """Return tr Σ/‖G‖² [M] in examples, Σ the covariance of single examples' gradients.

    Where batch normalisation needs company, of pairs of examples. Infinite where the mean gradient
    is not shown to differ from 0.
    """
    size = 1
    if any(isinstance(module, _BatchNorm) for module in networks.model.modules()):
        size = 2
    groups = min(_GROUPS, half.x.size(1) // size)
    networks.set_streams(steps)
    total = torch.zeros_like(networks.stack.grad, dtype=torch.float64)
    squares = torch.zeros(networks.members, dtype=torch.float64)
    for k in range(groups):
        networks.backpropagate(half.some(slice(k * size, (k + 1) * size)))
        total += networks.stack.grad.double()
        squares += networks.sums.square(networks.stack.grad).cpu()
    mean_square = networks.sums.square(total / groups).cpu()
    variance = (squares - groups * mean_square) / (groups - 1)  # of a group's gradient
    square_of_mean = mean_square - variance / groups
    scale = size * variance / square_of_mean
    return torch.where(square_of_mean > 0, scale, math.inf)
