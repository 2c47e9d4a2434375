"""Small convolutions of M networks as products over unfolded patches.

Legend: M networks, S batches in a step, B examples, C channels in, q out, kh × kw kernel, oh × ow
outputs; pictures are [M, C, H, W, B].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.train.forward.interface import MemberLayout


class UnfoldedConvolution:
    """A convolution's passes: W [q, C·kh·kw] × patches [C·kh·kw, oh·ow·B] for each network.

    tensors, grads: "weight" [M, q, C, kh, kw] and "bias" [M, q], and their gradients.
    """

    def __init__(
        self,
        module: nn.Conv2d,
        layout: MemberLayout,
        tensors: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
    ) -> None:
        weight = tensors["weight"]
        m, q, c, kh, kw = weight.shape
        self.members, self.q, self.c = m, q, c
        self.kh, self.kw = kh, kw
        self.stride = module.stride
        self.padding = cast(tuple[int, int], module.padding)
        self.layout = layout
        self.w = weight.view(m, q, -1)
        self.b = tensors["bias"].view(m, q, 1)
        self.dw = grads["weight"].view(m, q, -1)
        self.db = grads["bias"]
        # [M, kw, kh, C, q]: a view, so it follows the weights.
        self.w_by_input = weight.permute(0, 4, 3, 2, 1)
        self.each_alone = [(i, i + 1) for i in range(m)]

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """Return [M, q, oh, ow, B] for x [S, C, H, W, B], and what `backward` needs."""
        ph, pw = self.padding
        if ph or pw:
            x = F.pad(x, (0, 0, pw, pw, ph, ph))
        else:
            x = x.contiguous()
        _, _, height, width, n = x.shape
        patches = self._unfold(x)  # [S, C·kh·kw, oh, ow·B]
        _, values, oh, row = patches.shape
        ow = row // n
        places = oh * row

        out = x.new_empty(self.members, self.q, places)  # [M, q, oh·ow·B]
        for patch, (a, z) in self._with_networks(patches):
            # Networks that share a batch are one product: their kernels are rows of one matrix.
            weight = self.w[a:z].view(-1, values)  # [M·q, C·kh·kw]
            products = out[a:z].view(-1, places)
            torch.mm(weight, patch.flatten(1), out=products)
        out = out.add_(self.b).view(self.members, self.q, oh, ow, n)
        return out, (patches, height, width)

    def backward(self, g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        """Write the gradients of weight and bias; return that of the input if it is wanted."""
        patches, height, width = saved
        _, _, oh, ow, n = g.shape
        g = g.contiguous()
        for patch, (a, z) in self._with_networks(patches):
            # A product per output row stays in the cache; one over all rows took twice as long.
            by_channel = g[a:z].view(-1, oh, ow * n)  # [M·q, oh, ow·B]
            rows = by_channel.transpose(0, 1)
            patches_of_row = patch.permute(1, 2, 0)  # [oh, ow·B, C·kh·kw]
            products = torch.bmm(rows, patches_of_row)  # [oh, M·q, C·kh·kw]
            dw = self.dw[a:z].view(-1, patch.shape[0])  # [M·q, C·kh·kw]
            torch.sum(products, 0, out=dw)
        torch.sum(g, (2, 3, 4), out=self.db)
        if not wants_input:
            return g
        return self._gradient_of_input(g, height, width)

    def _with_networks(self, patches: Tensor) -> Iterator[tuple[Tensor, tuple[int, int]]]:
        """Yield each batch's patches with the range of networks that see it."""
        segments = self.layout.segments
        if len(patches) == self.members:
            segments = self.each_alone
        return zip(patches, segments, strict=True)

    def _unfold(self, x: Tensor) -> Tensor:
        """Return the patches [S, C·kh·kw, oh, ow·B] of padded pictures [S, C, H, W, B]."""
        s, c, height, width, n = x.shape
        kh, kw = self.kh, self.kw
        sh, sw = self.stride
        oh = (height - kh) // sh + 1
        ow = (width - kw) // sw + 1
        by_s, by_c, by_h, by_w, _ = x.stride()
        windows = x.as_strided(
            (s, c, kh, kw, oh, ow, n),
            (by_s, by_c, by_h, by_w, sh * by_h, sw * by_w, 1),
        )
        return windows.reshape(s, c * kh * kw, oh, ow * n)

    def _gradient_of_input(self, g: Tensor, height: int, width: int) -> Tensor:
        """Return the gradient by the input: what unfolding spread out, added up again.

        height, width: of the padded pictures.
        """
        _, q, oh, ow, n = g.shape
        c, kh, kw = self.c, self.kh, self.kw
        sh, sw = self.stride
        padded = g.new_zeros(self.members, c, height, width, n)
        for i in range(self.members):
            weight = self.w_by_input[i].reshape(-1, q)  # [kw·kh·C, q]
            of_network = g[i].view(q, -1)  # [q, oh·ow·B]
            spread = weight @ of_network
            spread = spread.view(kw, kh * c, oh, ow, n)  # by column of the kernel
            # First along the rows, then along the columns: kw + kh operations instead of kw · kh.
            wide = g.new_zeros(kh * c, oh, width, n)
            for column in range(kw):
                end = column + sw * ow
                wide[:, :, column:end:sw] += spread[column]
            for row, values in enumerate(wide.view(kh, c, oh, width, n)):
                end = row + sh * oh
                padded[i, :, row:end:sh] += values
        ph, pw = self.padding
        return padded[:, :, ph : height - ph, pw : width - pw]
