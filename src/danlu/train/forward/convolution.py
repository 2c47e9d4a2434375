"""Small convolutions of M networks as products over unfolded patches.

Legend: M networks, S batches in a step, B examples, C channels in, q out, kh × kw kernel, oh × ow
outputs; pictures are [M, C, H, W, B].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.train.forward.interface import MemberLayout

Forward = Callable[[Tensor], tuple[Tensor, Any]]
Backward = Callable[[Tensor, Any, bool], Tensor]


def unfolded_convolution(
    module: nn.Conv2d,
    layout: MemberLayout,
    tensors: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
) -> tuple[Forward, Backward]:
    """Return a convolution's passes: W [q, C·k·k] × patches [C·k·k, o·o·B] for each network."""
    m, q, c, kh, kw = tensors["weight"].shape
    sh, sw = module.stride
    ph, pw = cast(tuple[int, int], module.padding)
    w, b = tensors["weight"].view(m, q, -1), tensors["bias"].view(m, q, 1)
    dw, db = grads["weight"].view(m, q, -1), grads["bias"]
    # [M, kw, kh, C, q]: a view, so it follows the weights.
    w_by_input = w.view(m, q, c, kh, kw).permute(0, 4, 3, 2, 1)
    each_alone = [(i, i + 1) for i in range(m)]

    def unfold(x: Tensor) -> Tensor:
        """Return the patches [S, C·kh·kw, oh, ow·B] of a padded picture."""
        s, _, height, width, n = x.shape
        oh, ow = (height - kh) // sh + 1, (width - kw) // sw + 1
        by_s, by_c, by_h, by_w, _ = x.stride()
        shape = (s, c, kh, kw, oh, ow, n)
        strides = (by_s, by_c, by_h, by_w, sh * by_h, sw * by_w, 1)
        return x.as_strided(shape, strides).reshape(s, c * kh * kw, oh, ow * n)

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        x = F.pad(x, (0, 0, pw, pw, ph, ph)) if ph or pw else x.contiguous()
        s, _, height, width, n = x.shape
        patches = unfold(x)
        oh, ow = patches.shape[2], patches.shape[3] // n
        out = x.new_empty(m, q, oh * ow * n)
        segments = each_alone if s == m else layout.segments
        for patch, (a, z) in zip(patches, segments, strict=True):
            weight = w[a:z].view(-1, c * kh * kw)
            torch.mm(weight, patch.flatten(1), out=out[a:z].view(-1, oh * ow * n))
        return out.add_(b).view(m, q, oh, ow, n), (patches, height, width)

    def backward(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        patches, height, width = saved
        _, _, oh, ow, n = g.shape
        g = g.contiguous()
        segments = each_alone if len(patches) == m else layout.segments
        for patch, (a, z) in zip(patches, segments, strict=True):
            # A product per output row stays in the cache; one over all rows took twice as long.
            rows = g[a:z].view(-1, oh, ow * n).transpose(0, 1)
            products = torch.bmm(rows, patch.permute(1, 2, 0))
            torch.sum(products, 0, out=dw[a:z].view(-1, c * kh * kw))
        torch.sum(g, (2, 3, 4), out=db)
        return by_input(g, height, width) if wants_input else g

    def by_input(g: Tensor, height: int, width: int) -> Tensor:
        """Return the gradient by the input: what unfolding spread out, added up again."""
        _, _, oh, ow, n = g.shape
        padded = g.new_zeros(m, c, height, width, n)
        for i in range(m):
            spread = w_by_input[i].reshape(-1, q) @ g[i].view(q, -1)
            spread = spread.view(kw, kh * c, oh, ow, n)
            wide = g.new_zeros(kh * c, oh, width, n)
            for column in range(kw):
                wide[:, :, column : column + sw * ow : sw] += spread[column]
            for row, values in enumerate(wide.view(kh, c, oh, width, n)):
                padded[i, :, row : row + sh * oh : sh] += values
        return padded[:, :, ph : height - ph, pw : width - pw]

    return forward, backward
