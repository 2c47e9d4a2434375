"""A function of a batch by several threads at once, each on rows of its own.

A kernel that walks through time brings its threads together at every step; threads with rows of their own meet once.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import torch
from torch import Tensor

Run = Callable[..., tuple[Tensor, ...]]
Dims = tuple[int | None, ...]  # along which rows lie in each tensor; None: every thread gets the whole

_LEAST = 8  # rows of a thread: with fewer, products are slow


def by_rows(run: Run, args: Sequence[Tensor], dims: Dims, out_dims: Dims) -> tuple[Tensor, ...]:
    """`run(*args)` on a CPU, by as many threads as PyTorch is to use; differentiable once."""
    rows = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    n = min(torch.get_num_threads(), rows // _LEAST)
    if n < 2 or args[0].is_cuda or torch.is_autocast_enabled("cpu"):
        return run(*args)
    if torch.is_grad_enabled() and any(a.requires_grad for a in args):
        return cast(tuple[Tensor, ...], _ByRows.apply(run, n, dims, out_dims, *args))  # type: ignore[no-untyped-call]

    def own(*given: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return run(*given)

    return _joined(list(_crew(n).map(own, *_shares(args, dims, n))), out_dims)


def _shares(tensors: Sequence[Tensor], dims: Dims, n: int) -> list[Sequence[Tensor]]:
    """Of each tensor what each of n threads gets."""
    return [[t] * n if d is None else t.tensor_split(n, d) for t, d in zip(tensors, dims, strict=True)]


def _joined(parts: Sequence[Sequence[Tensor]], dims: Dims) -> tuple[Tensor, ...]:
    """What threads give, put together: one after another along the rows; a sum where each has the whole."""
    return tuple(
        functools.reduce(torch.add, own) if d is None else torch.cat(own, d)
        for own, d in zip(zip(*parts, strict=True), dims, strict=True)
    )


class _ByRows(torch.autograd.Function):
    """Each thread keeps a graph of its own, and goes back through it."""

    @staticmethod
    def forward(ctx: Any, run: Run, n: int, dims: Dims, out_dims: Dims, *args: Tensor) -> Any:
        needed = ctx.needs_input_grad[4:]

        def own(*given: Tensor) -> tuple[list[Tensor], tuple[Tensor, ...]]:
            leaves = [t.detach().requires_grad_(need) for t, need in zip(given, needed, strict=True)]
            return leaves, run(*leaves)

        ctx.graphs = list(_crew(n).map(own, *_shares(args, dims, n)))
        ctx.dims, ctx.out_dims = dims, out_dims
        return _joined([[o.detach() for o in outs] for _, outs in ctx.graphs], out_dims)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        def own(graph: tuple[list[Tensor], tuple[Tensor, ...]], *slope: Tensor) -> list[Tensor]:
            leaves, outs = graph
            go_back(outs, slope)
            return [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves]

        graphs, n, needed = ctx.graphs, len(ctx.graphs), ctx.needs_input_grad[4:]
        found = _joined(list(_crew(n).map(own, graphs, *_shares(slopes, ctx.out_dims, n))), ctx.dims)
        ctx.graphs = None
        return None, None, None, None, *(g if need else None for g, need in zip(found, needed, strict=True))


@functools.cache
def _crew(n: int) -> ThreadPoolExecutor:
    """n threads that each work alone: on one core, and with what decays towards 0 becoming 0, as in training."""
    ready = threading.Barrier(n)

    def begin() -> None:
        torch.get_num_threads()  # what is set before a thread's first question is forgotten
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)

    crew, before = ThreadPoolExecutor(n, "rows", begin), torch.get_num_threads()
    list(crew.map(lambda _: ready.wait(), range(n)))  # all have begun
    torch.set_num_threads(before)  # what PyTorch takes for threads that are yet to come
    return crew


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_crew.cache_clear)  # threads stay behind


class _Known(torch.autograd.Function):
    """A number whose gradient by some tensors is known: theirs come first, then what it is."""

    @staticmethod
    def forward(ctx: Any, *both: Tensor) -> Tensor:
        ctx.slopes = both[len(both) // 2 :]
        return both[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        return *ctx.slopes, *(None for _ in ctx.slopes)


def go_back(outs: Sequence[Tensor], slopes: Sequence[Tensor]) -> None:
    """`torch.autograd.backward(outs, slopes)`, which would import a library of symbolic algebra first (half a second)."""
    cast(Tensor, _Known.apply(*outs, *slopes)).backward()  # type: ignore[no-untyped-call]
