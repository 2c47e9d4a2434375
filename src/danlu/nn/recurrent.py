"""A recurrent layer by the cells of `danlu.nn.cells`, or by the framework's kernels where those are faster.

Padding never reaches a result: it lies at the end of a sequence, later states are not looked at, and the way back begins
at each sequence's own last token. Legend: T steps, B examples, n inputs, H units, G gates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.cells import CELLS, scan

State = tuple[Tensor, ...]  # h [B, H], and c where the cell has one
_several: ContextVar[bool] = ContextVar("several", default=False)


@contextlib.contextmanager
def several() -> Iterator[None]:
    """Within, layers know that `vmap` trains several networks: the framework's kernels cannot follow it."""
    token = _several.set(True)
    try:
        yield
    finally:
        _several.reset(token)


def has_bfloat16() -> bool:
    """Whether PyTorch's kernels for CPUs can work in bfloat16 on this processor."""
    return torch.backends.mkldnn.is_available() and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


class _EachAlone(torch.autograd.Function):
    """The framework's LSTM of every network of a population in turn: on a CPU faster than all together step by step."""

    @staticmethod
    def forward(*args: Tensor) -> Any:
        raise NotImplementedError("of use under vmap only")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing: the graph is that of the networks one by one."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Tensor) -> Any:
        of = [
            [a.select(d, i) if d is not None else a for a, d in zip(args, in_dims, strict=True)]
            for i in range(info.batch_size)
        ]
        outs = zip(*(_lstm(*own) for own in of), strict=True)
        return tuple(torch.stack(o) for o in outs), (0, 0, 0)


def _lstm(
    x: Tensor, h: Tensor, c: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The framework's: outputs [T, B, H], last h and c [B, H]."""
    weights = [w_ih, w_hh, bias, torch.zeros_like(bias)]
    out, h, c = torch.lstm(
        x, (h.unsqueeze(0), c.unsqueeze(0)), weights, True, 1, 0.0, True, False, False
    )
    return out, h.squeeze(0), c.squeeze(0)


class Recurrent(nn.Module):
    """One layer of a cell in one direction.

    Weights as in PyTorch's own layers: `weight_ih` [G·H, n], `weight_hh` [G·H, H], their gates in the order of
    `danlu.nn.cells`; one `bias` [G·H]; `extra` [E·H] holds peepholes, or the bias within the framework's GRU: flat, as
    decay and penalties act on matrices alone.
    """

    def __init__(self, cell: str, n: int, hidden: int, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.cell, self.hidden, self.forget_bias = cell, hidden, forget_bias
        kind = CELLS[cell]
        self.weight_ih = nn.Parameter(torch.empty(kind.gates * hidden, n))
        self.weight_hh = nn.Parameter(torch.empty(kind.gates * hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(kind.gates * hidden))
        if kind.extras:
            self.extra = nn.Parameter(torch.zeros(kind.extras * hidden))

    def reset_weights(self, fill: Callable[[str, Tensor, str], None], bias: float) -> None:
        """Each gate's weights by themselves: inputs by Xavier's rule, recurrent ones orthogonal; the forget gate open."""
        for name, rule in (("weight_ih", "xavier"), ("weight_hh", "orthogonal")):
            for k, gate in enumerate(getattr(self, name).chunk(CELLS[self.cell].gates)):
                fill(f"{name}.{k}", gate, rule)
        self.bias.fill_(bias)
        if CELLS[self.cell].memory:
            self.bias[self.hidden : 2 * self.hidden] = self.forget_bias
        if CELLS[self.cell].extras:
            self.extra.zero_()

    def start(self, x: Tensor) -> State:
        """Zeros for the states before the first step of x [T, B, n] (the notes' c⟨0⟩ = 0)."""
        zeros = x.new_zeros(x.shape[1], self.hidden)
        return (zeros, zeros) if CELLS[self.cell].memory else (zeros,)

    def forward(
        self, x: Tensor, state: State | None = None, each: bool = False
    ) -> tuple[Tensor, State]:
        """Outputs [T, B, H] for x [T, B, n], and the last state; with `each` the states after every step [T, B, H]."""
        h, *rest = self.start(x) if state is None else state
        cell = CELLS[self.cell]
        if self._framework(x) and cell.memory and not each:
            run: Any = _EachAlone.apply if _several.get() else _lstm
            out, h, c = run(x, h, rest[0], self.weight_ih, self.weight_hh, self.bias)
            return out, (h, c)
        if self._framework(x) and not cell.memory and not each:
            return self._kernel(x, h)
        gates = F.linear(x, self.weight_ih, self.bias)
        extra = (self.extra if cell.extras else x.new_zeros(0)).view(-1, self.hidden)
        out, c = scan(
            self.cell, gates, self.weight_hh.t(), extra, h, rest[0] if rest else x.new_zeros(0)
        )
        states = (out, c) if cell.memory else (out,)
        return out, states if each else tuple(s[-1] for s in states)

    def _framework(self, x: Tensor) -> bool:
        """Whether the framework's kernel is the faster: on a GPU for one network, on a CPU for the LSTM (measured)."""
        if CELLS[self.cell].fused is None:
            return False
        if x.is_cuda:
            return not _several.get()
        if (
            self.cell != "lstm"
            or x.dtype != torch.float32
            or not torch.backends.mkldnn.is_available()
        ):
            return False
        return not torch.is_autocast_enabled("cpu") or has_bfloat16()  # without it, it fails

    def _kernel(self, x: Tensor, h: Tensor) -> tuple[Tensor, State]:
        """The framework's GRU or RNN."""
        inner = torch.zeros_like(self.bias)
        if CELLS[self.cell].extras:
            inner = torch.cat([inner[: 2 * self.hidden], self.extra])
        weights = [self.weight_ih, self.weight_hh, self.bias, inner]
        run = getattr(torch, CELLS[self.cell].fused or "")
        out, last = run(x, h.unsqueeze(0), weights, True, 1, 0.0, self.training, False, False)
        return out, (last.squeeze(0),)

    def extra_repr(self) -> str:
        """Shown in `print(model)`."""
        return f"{self.cell}, {self.weight_ih.shape[1]}, {self.hidden}"


def backwards(x: Tensor, lengths: Tensor) -> Tensor:
    """Each sequence of x [T, B, …] from its last token to its first; what lies behind stays. lengths [B]."""
    t = torch.arange(len(x), device=x.device).unsqueeze(1)
    index = torch.where(t < lengths, lengths - 1 - t, t)
    return x.gather(0, index.view(*index.shape, *(1,) * (x.ndim - 2)).expand(x.shape))


def last(x: Tensor, lengths: Tensor) -> Tensor:
    """The value of x [T, B, H] at each sequence's last token [B, H]."""
    return x.gather(0, (lengths - 1).clamp_min(0).view(1, -1, 1).expand(1, *x.shape[1:])).squeeze(0)
