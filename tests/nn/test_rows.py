"""A batch shared among threads gives what it gives whole: values, gradients, and the process is left as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from danlu.nn.rows import by_rows

DIMS, OUT = (1, 0, None), (1, 0)


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def function(x: Tensor, h: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    """x [T, B, n], h [B, m], w [n, m] → [T, B, m], [B, m]."""
    assert torch.get_num_threads() in (1, 3)
    return torch.tanh(x @ w + h), h * w.sum()


def inputs(rows: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in ((4, rows, 5), (rows, 3), (5, 3))]


@pytest.mark.parametrize("rows", [1, 8, 25, 26])
@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)])
def test_values_and_gradients_are_those_of_the_whole(rows: int, used: tuple[int, ...]) -> None:
    args = inputs(rows)
    found = []
    for outs in (by_rows(function, args, DIMS, OUT), function(*args)):
        total = torch.stack([outs[k].sin().sum() for k in used]).sum()
        found.append((*outs, *torch.autograd.grad(total, args, allow_unused=True)))
    for ours, whole in zip(*found, strict=True):
        torch.testing.assert_close(ours, torch.zeros_like(ours) if whole is None and ours is not None else whole)


def test_rows_go_to_threads_of_one_core_each() -> None:
    told = []

    def note(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        told.append((x.shape[0], torch.get_num_threads()))
        return (x @ w,)

    by_rows(note, [torch.randn(26, 4), torch.randn(4, 2)], (0, None), (0,))
    assert sorted(told) == [(8, 1), (9, 1), (9, 1)]
    assert torch.get_num_threads() == 3


def test_what_needs_no_gradient_gets_none() -> None:
    x, h, w = inputs(24)
    outs = by_rows(function, [x.detach(), h, w], DIMS, OUT)
    outs[0].sum().backward()
    assert x.grad is None and h.grad is not None and w.grad is not None
    with torch.no_grad():
        assert not by_rows(function, [x, h, w], DIMS, OUT)[0].requires_grad


def test_an_error_in_a_thread_is_told() -> None:
    def fail(x: Tensor) -> tuple[Tensor, ...]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        by_rows(fail, [torch.randn(24, 2)], (0,), (0,))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    args = inputs(24)
    whole = by_rows(function, args, DIMS, OUT)[0].detach()
    child = os.fork()
    if not child:
        same = torch.equal(by_rows(function, args, DIMS, OUT)[0].detach(), whole)
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
