"""A recurrent layer by `danlu.nn.cells`, or by PyTorch's kernels where they are faster.

Padding never reaches a result: it lies at the end of a sequence, later states are not looked at,
and the reverse direction begins at each sequence's own last token.

Legend: T steps, B examples, n inputs, H units, G gates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.cells import CELLS
from danlu.nn.protocols import ResetsWeights, State
from danlu.nn.scan import scan

_under_vmap: ContextVar[bool] = ContextVar("under_vmap", default=False)


@contextlib.contextmanager
def under_vmap() -> Iterator[None]:
    """Tell layers that `vmap` trains several networks, which most PyTorch kernels cannot follow."""
    token = _under_vmap.set(True)
    try:
        yield
    finally:
        _under_vmap.reset(token)


def has_bfloat16() -> bool:
    """Whether PyTorch's kernels for CPUs can work in bfloat16 on this processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _LSTMOfEach(torch.autograd.Function):
    """PyTorch's LSTM of each network of a population in turn.

    On a CPU that is faster than all of them together step by step.
    """

    @staticmethod
    def forward(*args: Tensor) -> Any:
        raise NotImplementedError("of use under vmap only")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: the graph is that of the networks one by one."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Tensor) -> Any:
        outputs = []
        for i in range(info.batch_size):
            inputs = []
            for tensor, dim in zip(args, in_dims, strict=True):
                if dim is None:  # shared by all networks
                    inputs.append(tensor)
                else:
                    inputs.append(tensor.select(dim, i))
            outputs.append(_lstm(*inputs))
        stacked = [torch.stack(of_all) for of_all in zip(*outputs, strict=True)]
        return tuple(stacked), (0, 0, 0)


def _in_one_piece(weights: list[Tensor]) -> list[Tensor]:
    """Return a layer's weights one behind another in memory, as cuDNN wants them.

    It would copy them itself, and warn of it at every call.
    """
    if not weights[0].is_cuda:
        return weights
    piece = torch.cat([w.flatten() for w in weights])
    parts = piece.split([w.numel() for w in weights])
    return [part.view_as(w) for part, w in zip(parts, weights, strict=True)]


def _lstm(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run PyTorch's LSTM: return outputs [T, B, H], and the last h and c [B, H]."""
    # PyTorch adds two biases; one of them is enough.
    weights = _in_one_piece([w_ih, w_hh, bias, torch.zeros_like(bias)])
    state = (h.unsqueeze(0), c.unsqueeze(0))
    out, h, c = torch.lstm(
        x,
        state,
        weights,
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=True,
        bidirectional=False,
        batch_first=False,
    )
    return out, h.squeeze(0), c.squeeze(0)


class Recurrent(nn.Module, ResetsWeights):
    """One layer of a cell in one direction.

    Weights as in PyTorch's own layers: `weight_ih` [G·H, n], `weight_hh` [G·H, H], their gates in
    the order of `danlu.nn.cells`; one `bias` [G·H]; `extra` [E·H] holds peepholes, or the bias
    within PyTorch's GRU. It is flat, as decay and penalties act on matrices alone.
    """

    def __init__(self, cell: str, n: int, hidden: int, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.cell = cell
        self.hidden = hidden
        self.forget_bias = forget_bias
        row = CELLS[cell]
        gates = row.gates * hidden
        self.weight_ih = nn.Parameter(torch.empty(gates, n))
        self.weight_hh = nn.Parameter(torch.empty(gates, hidden))
        self.bias = nn.Parameter(torch.zeros(gates))
        if row.extras:
            self.extra = nn.Parameter(torch.zeros(row.extras * hidden))

    def reset_weights(self, fill: Callable[[str, Tensor, str], None], bias: float) -> None:
        """Draw each gate's weights: those of inputs by Xavier's rule, recurrent ones orthogonal.

        The forget gate's bias is `forget_bias`.
        """
        row = CELLS[self.cell]
        # Gate by gate: orthogonal rows across gates would mean nothing.
        for k, gate in enumerate(self.weight_ih.chunk(row.gates)):
            fill(f"weight_ih.{k}", gate, "xavier")
        for k, gate in enumerate(self.weight_hh.chunk(row.gates)):
            fill(f"weight_hh.{k}", gate, "orthogonal")
        self.bias.fill_(bias)
        if row.memory:
            forget_gate = self.bias[self.hidden : 2 * self.hidden]
            forget_gate.fill_(self.forget_bias)
        if row.extras:
            self.extra.zero_()

    def start(self, x: Tensor) -> State:
        """Return zeros for the state before the first step of x [T, B, n] (the notes' c⟨0⟩ = 0)."""
        zeros = x.new_zeros(x.shape[1], self.hidden)  # [B, H]
        if CELLS[self.cell].memory:
            return zeros, zeros
        return (zeros,)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        each: bool = False,
    ) -> tuple[Tensor, State]:
        """Return outputs [T, B, H] for x [T, B, n], and the last state.

        each: return the states after every step [T, B, H] instead of the last one.
        """
        row = CELLS[self.cell]
        if state is None:
            state = self.start(x)
        h, *memory = state
        # PyTorch's kernels do not tell the states in between.
        if not each and self._has_faster_kernel(x):
            if row.memory:
                return self._lstm_kernel(x, h, memory[0])
            return self._kernel(x, h)

        none = x.new_zeros(0)
        gates = F.linear(x, self.weight_ih, self.bias)  # [T, B, G·H]
        extra = self.extra if row.extras else none
        c = memory[0] if memory else none
        out, c = scan(self.cell, gates, self.weight_hh.t(), extra.view(-1, self.hidden), h, c)
        states = (out, c) if row.memory else (out,)
        if each:
            return out, states
        return out, tuple(s[-1] for s in states)

    def _has_faster_kernel(self, x: Tensor) -> bool:
        """Whether PyTorch's kernel is faster: for one network on a GPU, for the LSTM on a CPU.

        Measured. Without hardware bfloat16 the kernel fails under autocast.
        """
        if CELLS[self.cell].fused is None:
            return False
        if x.is_cuda:
            return not _under_vmap.get()
        if self.cell != "lstm" or x.dtype != torch.float32:
            return False
        if not torch.backends.mkldnn.is_available():
            return False
        return not torch.is_autocast_enabled("cpu") or has_bfloat16()

    def _lstm_kernel(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, State]:
        weights = (self.weight_ih, self.weight_hh, self.bias)
        if _under_vmap.get():
            out, h, c = _LSTMOfEach.apply(x, h, c, *weights)  # type: ignore[no-untyped-call]
        else:
            out, h, c = _lstm(x, h, c, *weights)
        return out, (h, c)

    def _kernel(self, x: Tensor, h: Tensor) -> tuple[Tensor, State]:
        """Run PyTorch's GRU or RNN."""
        row = CELLS[self.cell]
        inner_bias = torch.zeros_like(self.bias)  # [G·H]
        if row.extras:
            of_gates = inner_bias[: 2 * self.hidden]
            inner_bias = torch.cat([of_gates, self.extra])
        weights = _in_one_piece([self.weight_ih, self.weight_hh, self.bias, inner_bias])
        run = getattr(torch, row.fused or "")
        out, last_h = run(
            x,
            h.unsqueeze(0),
            weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
            batch_first=False,
        )
        return out, (last_h.squeeze(0),)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows."""
        return f"{self.cell}, {self.weight_ih.shape[1]}, {self.hidden}"


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Return each sequence of x [T, B, …] from its last token to its first, then padding."""
    t = torch.arange(len(x), device=x.device).unsqueeze(1)  # [T, 1]
    is_token = t < lengths  # [T, B]
    from_the_end = lengths - 1 - t
    index = torch.where(is_token, from_the_end, t)
    trailing = (1,) * (x.ndim - 2)
    index = index.view(*index.shape, *trailing)
    return x.gather(0, index.expand(x.shape))


def last(x: Tensor, lengths: Tensor) -> Tensor:
    """Return x [T, B, H] at each sequence's last token, [B, H]."""
    index = (lengths - 1).clamp_min(0).view(1, -1, 1)  # [1, B, 1]
    _, examples, hidden = x.shape
    at_last = x.gather(0, index.expand(1, examples, hidden))
    return at_last.squeeze(0)
