"""Cells against their formulas written a second time, step by step by autograd; the framework's layers; padding."""

from __future__ import annotations

import pytest
import torch
from cell_formulas import step
from torch import Tensor, nn

from danlu.nn.cells import CELLS
from danlu.nn.recurrent import Recurrent, reverse, under_vmap
from danlu.nn.scan import scan

T, B, H, M = 7, 4, 5, 3


def inputs(name: str) -> tuple[Tensor, ...]:
    g, cell = torch.Generator().manual_seed(0), CELLS[name]
    shapes = (
        (M, T, B, cell.gates * H),
        (M, H, cell.gates * H),
        (M, cell.extras, H),
        (M, B, H),
        (M, B, H),
    )
    return tuple(torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes)


def every_state(
    name: str, x: Tensor, w: Tensor, e: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor]:
    hs, cs = [], []
    for xt in x:
        h, c = step(name, xt, w, e, h, c)
        hs.append(h)
        cs.append(c)
    return torch.stack(hs), torch.stack(cs)


@pytest.mark.parametrize("way", ["alone", "vmap"])
@pytest.mark.parametrize("name", sorted(CELLS))
def test_values_and_gradients_are_those_of_the_formulas(name: str, way: str) -> None:
    args, g = inputs(name), torch.Generator().manual_seed(1)
    by_h, by_c = (torch.randn(M, T, B, H, generator=g, dtype=torch.float64) for _ in range(2))
    expected = [
        torch.stack(s)
        for s in zip(*(every_state(name, *(a[i] for a in args)) for i in range(M)), strict=True)
    ]
    if way == "alone":
        pairs = [scan(name, *(a[i] for a in args)) for i in range(M)]
        found = [torch.stack([p[k] for p in pairs]) for k in (0, 1)]
    else:
        found = list(torch.func.vmap(lambda *a: scan(name, *a))(*args))

    def gradients(h: Tensor, c: Tensor) -> tuple[Tensor | None, ...]:
        total = (h * by_h).sum() + ((c * by_c).sum() if CELLS[name].memory else 0)
        return torch.autograd.grad(total, args, allow_unused=True)

    torch.testing.assert_close(found[0], expected[0], rtol=1e-10, atol=1e-10)
    if CELLS[name].memory:
        torch.testing.assert_close(found[1], expected[1], rtol=1e-10, atol=1e-10)
    for a, b, arg in zip(gradients(*found), gradients(*expected), args, strict=True):
        if b is not None and arg.numel():
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(CELLS))
def test_gradients_equal_finite_differences(name: str) -> None:
    args = [
        a[0, :3].detach().requires_grad_() if i == 0 else a[0].detach().requires_grad_()
        for i, a in enumerate(inputs(name))
    ]
    kept = args if CELLS[name].memory else args[:4]
    rest = [] if CELLS[name].memory else [torch.zeros(0, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *a: scan(name, *a, *rest)[0], kept)


@pytest.mark.parametrize("name", [k for k, c in CELLS.items() if c.fused])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pytorch_s_layers_give_the_same(name: str, dtype: torch.dtype) -> None:
    """Values, last states and gradients of `nn.LSTM`, `nn.GRU` and `nn.RNN`, from the same weights."""
    torch.manual_seed(0)
    kinds = {
        "lstm": nn.LSTM,
        "gru": nn.GRU,
        "rnn": nn.RNN,
        "rnn-relu": lambda n, h: nn.RNN(n, h, nonlinearity="relu"),
    }
    theirs, ours = kinds[name](6, H).to(dtype), Recurrent(name, 6, H).to(dtype)
    with torch.no_grad():
        ours.weight_ih.copy_(theirs.weight_ih_l0)
        ours.weight_hh.copy_(theirs.weight_hh_l0)
        ours.bias.copy_(theirs.bias_ih_l0 + theirs.bias_hh_l0)
        if name == "gru":  # its inner bias stays within the reset
            ours.bias[2 * H :] = theirs.bias_ih_l0[2 * H :]
            ours.extra.copy_(theirs.bias_hh_l0[2 * H :])
    x = torch.randn(T, B, 6, dtype=dtype)
    a, last = theirs(x)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    for each in (False, True):  # by kernels of the framework where those are used, and step by step
        ours.zero_grad()
        theirs.zero_grad()
        b, states = ours(x, each=each)
        torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance)
        last_h = last[0] if name == "lstm" else last
        torch.testing.assert_close(
            states[0][-1] if each else states[0], last_h[0], rtol=tolerance, atol=tolerance
        )
        a.square().sum().backward(retain_graph=True)
        b.square().sum().backward()
        for p, q in ((ours.weight_ih, theirs.weight_ih_l0), (ours.weight_hh, theirs.weight_hh_l0)):
            torch.testing.assert_close(p.grad, q.grad, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("name", sorted(CELLS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_several_networks_at_once_equal_each_alone(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = [Recurrent(name, 6, H).to(dtype) for _ in range(M)]
    for layer in layers:
        for p in layer.parameters():
            nn.init.normal_(p, std=0.3)
    x = torch.randn(T, B, 6, dtype=dtype)
    stacked = {
        k: torch.stack([dict(m.named_parameters())[k].detach() for m in layers]).requires_grad_()
        for k, _ in layers[0].named_parameters()
    }
    with under_vmap():
        out = torch.func.vmap(lambda p: torch.func.functional_call(layers[0], p, (x,))[0])(stacked)
    out.square().sum().backward()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    for i, layer in enumerate(layers):
        own, _ = layer(x)
        own.square().sum().backward()
        torch.testing.assert_close(out[i], own, rtol=tolerance, atol=tolerance)
        for k, p in layer.named_parameters():
            torch.testing.assert_close(
                stacked[k].grad[i], p.grad, rtol=20 * tolerance, atol=20 * tolerance
            )  # type: ignore[index]


def test_reverse_turns_each_sequence_within_its_length() -> None:
    x = torch.tensor([[1, 4, 6], [2, 5, 0], [3, 0, 0]])
    turned = reverse(x, torch.tensor([3, 2, 1]))
    assert turned.tolist() == [[3, 5, 6], [2, 4, 0], [1, 0, 0]]
    assert torch.equal(reverse(turned, torch.tensor([3, 2, 1])), x)


def test_bfloat16_works_on_processors_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The framework's LSTM fails there, so our cell serves."""
    layer, x = Recurrent("lstm", 6, H), torch.randn(T, B, 6)
    for p in layer.parameters():  # made without values
        nn.init.normal_(p, std=0.3)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert layer._has_faster_kernel(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not layer._has_faster_kernel(x)
        assert layer(x)[0].isfinite().all()
