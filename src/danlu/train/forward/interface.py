"""What every way of passing through M networks offers, and what it is told about them.

Legend: M networks, S batches in a step (fewer than M where networks share them), B examples,
T tokens, K outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

Heads = tuple[Tensor, ...]  # outputs [M, K, B] of each classifier, the network's own first


class ForwardPass(Protocol):
    """One way of passing forward and backward through all networks of a population."""

    state: tuple[Tensor, ...] | None
    """What stateful networks carry from one batch to the next, [M, B, H] each."""

    def forward(self, x: Tensor) -> tuple[Heads, Any]:
        """Return the outputs for x [S, B, …] (tokens in a row), and what `backward` needs."""

    def backward(self, gradients: Sequence[Tensor], saved: Any) -> None:
        """Overwrite the gradient of every parameter; gradients: by each of the outputs."""


class SequenceForwardPass(ForwardPass, Protocol):
    """A way that can also pass through networks whose loss is of a whole sequence."""

    def sequence_loss(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor, Any]:
        """Return losses [M], outputs [M, K, B·T], and what `backward` needs.

        x [S, B, T], y [M or 1, B, T]; weights [M or 1, B]: what a token of each sentence counts.
        """


@dataclass
class MemberLayout:
    """Which networks there are, which batch each sees, where its dropout masks come from."""

    members: int = 1
    segments: list[tuple[int, int]] = field(default_factory=lambda: [(0, 1)])
    """Networks a…z of each batch in turn."""
    generators: list[torch.Generator] = field(default_factory=list)
    """The random streams of masks."""
    stream_of: Tensor | None = None
    """[M] into `generators`; None: one for all."""

    def per_member(self, x: Tensor) -> Tensor:
        """Return [S, …] as [M, …]."""
        if x.size(0) == self.members:
            return x
        expanded = []
        for batch, (a, z) in zip(x, self.segments, strict=True):
            expanded.append(batch.expand(z - a, *batch.shape))
        return torch.cat(expanded)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Draw from each network's stream for dropout, [M or 1, *shape]."""
        draws = []
        for generator in self.generators:
            device = generator.device
            draws.append(torch.rand(shape, generator=generator, device=device))
        u = torch.stack(draws)  # [streams, *shape]
        if self.stream_of is None:
            return u
        return u[self.stream_of]


@dataclass(frozen=True)
class Precision:
    """How the arithmetic is done.

    mixed: products in bfloat16 while training. heads: how many classifiers of a network count.
    """

    device: torch.device
    mixed: bool = False
    heads: int = 1

    @contextlib.contextmanager
    def of_pass(self, training: bool) -> Iterator[None]:
        """Set the gradient and the precision of a forward pass."""
        uses_bfloat16 = self.mixed and training
        with (
            torch.set_grad_enabled(training),
            torch.autocast(self.device.type, torch.bfloat16, uses_bfloat16),
        ):
            yield

    def arrange(self, x: Tensor) -> Tensor:
        """Return pictures with their channels innermost where that is faster.

        On a CPU in float32 it is not.
        """
        is_faster = self.mixed or self.device.type == "cuda"
        if x.ndim == 4 and is_faster:
            # cuDNN and oneDNN in bfloat16 have their fast kernels for that layout.
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def outputs(self, out: Any) -> tuple[Tensor, ...]:
        """Return the outputs [B, K] of every classifier that counts, in the loss's precision.

        Tokens of all examples come in a row.
        """
        heads = (out,)
        # In training, auxiliary classifiers come after the network's own.
        if isinstance(out, tuple):
            heads = out[: self.heads]
        if heads[0].ndim > 2:  # [B, T, K]
            heads = tuple(head.flatten(0, -2) for head in heads)
        # The loss is computed in float32: sums of bfloat16 lose what is small.
        if self.mixed:
            heads = tuple(head.float() for head in heads)
        return tuple(heads)


def scaled_keep_mask(u: Tensor, p: Any, like: Tensor) -> Tensor:
    """Return 0 where u < p, else 1/(1−p), in the type of `like`.

    p: a number, or float64 [M]. As the layer alone does it: compared in u's precision, scaled in
    that of the values.
    """
    threshold = p
    scale: Any
    if isinstance(p, Tensor):
        trailing = (1,) * (u.ndim - 1)
        by_member = p.view(-1, *trailing)  # [M, 1, …]
        scale = 1 / (1 - by_member)
        scale = scale.to(like.dtype)
        threshold = by_member.to(u.dtype)
    else:
        scale = 1 / (1 - p)
    # Drawn on the CPU: a GPU's generator would give other masks.
    kept = u.to(like.device) >= threshold
    mask: Tensor = kept.to(like.dtype) * scale
    return mask
