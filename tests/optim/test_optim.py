"""Rules against their formulas in NumPy float64, step for step; against PyTorch; schedules in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from danlu.errors import RecipeError
from danlu.nn import penalties
from danlu.optim import Optimizer, schedules
from danlu.optim.clip import clip_norm, clip_value, norm_factor
from danlu.optim.optimizers import OPTIMIZERS, per_network

STEPS = 30
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(6, 6)), RNG.normal(size=6)
START = RNG.normal(size=6)


def gradient(w: np.ndarray) -> np.ndarray:
    """Of ‖Aw − b‖²/2 + Σ sin w: smooth, not quadratic."""
    return A.T @ (A @ w - B) + np.cos(w)


def numpy_path(name: str, h: dict[str, float]) -> np.ndarray:
    """The formulas of the notes, written without a look at the rules."""
    w, out = START.copy(), []
    v, m, s = np.zeros(6), np.zeros(6), np.zeros(6)
    for t in range(1, STEPS + 1):
        g = gradient(w)
        w = w - h["lr"] * h["weight_decay"] * w
        if name == "sgd":
            w = w - h["lr"] * g
        elif name == "momentum":
            v = h["momentum"] * v - h["lr"] * g
            w = w + v
        elif name == "nesterov":
            v = h["momentum"] * v - h["lr"] * g
            w = w + h["momentum"] * v - h["lr"] * g
        elif name == "adagrad":
            s = s + g**2
            w = w - h["lr"] * g / (np.sqrt(s) + h["eps"])
        elif name == "rmsprop":
            s = h["rho"] * s + (1 - h["rho"]) * g**2
            w = w - h["lr"] * g / (np.sqrt(s) + h["eps"])
        else:
            m = h["beta1"] * m + (1 - h["beta1"]) * g
            s = h["beta2"] * s + (1 - h["beta2"]) * g**2
            w = w - h["lr"] * (m / (1 - h["beta1"] ** t)) / (
                np.sqrt(s / (1 - h["beta2"] ** t)) + h["eps"]
            )
        out.append(w)
    return np.array(out)


def own_path(name: str, h: dict[str, Any]) -> np.ndarray:
    p, out = torch.from_numpy(START.copy()), []
    state = OPTIMIZERS[name].start(p)
    for t in range(1, STEPS + 1):
        g = torch.from_numpy(gradient(p.numpy()))
        OPTIMIZERS[name].decay(p, h)
        OPTIMIZERS[name].update(p, g, state, h, t)
        out.append(p.numpy().copy())
    return np.array(out)


def torch_path(make: Any) -> np.ndarray:
    p, out = torch.from_numpy(START.copy()).requires_grad_(), []
    optimizer = make([p])
    for _ in range(STEPS):
        p.grad = torch.from_numpy(gradient(p.detach().numpy()))
        optimizer.step()
        out.append(p.detach().numpy().copy())
    return np.array(out)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_optimizers_equal_the_formulas(name: str, decay: float) -> None:
    h = {**OPTIMIZERS[name].defaults, "lr": 0.02, "weight_decay": decay}
    np.testing.assert_allclose(own_path(name, h), numpy_path(name, h), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_hyper_parameters_as_tensors_give_the_same(name: str) -> None:
    h = {**OPTIMIZERS[name].defaults, "lr": 0.02}
    np.testing.assert_allclose(
        own_path(name, {k: torch.tensor(v, dtype=torch.float64) for k, v in h.items()}),
        own_path(name, h),
        rtol=1e-11,
    )


TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.02, foreach=False),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, foreach=False),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, foreach=False),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.02, eps=1e-7, foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.02, alpha=0.9, foreach=False),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.01, foreach=False),
}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers_equal_pytorch_s_in_any_loop(name: str) -> None:
    theirs = torch_path(TORCH[name])
    np.testing.assert_allclose(
        own_path(name, {**OPTIMIZERS[name].defaults, "lr": 0.02}), theirs, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(
        torch_path(lambda p: Optimizer(p, name, lr=0.02)), theirs, rtol=1e-9, atol=1e-12
    )


def test_the_optimizer_has_groups_a_state_dict_and_takes_pytorch_s_schedulers() -> None:
    a, b = (torch.ones(3, requires_grad=True) for _ in range(2))
    optimizer = Optimizer([{"params": [a]}, {"params": [b], "lr": 0.5}], "momentum", lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (a.sum() + b.sum()).backward()
        optimizer.step()
        scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == [0.025, 0.125]
    twin = Optimizer([{"params": [a]}, {"params": [b]}], "momentum", lr=0.1)
    twin.load_state_dict(optimizer.state_dict())
    assert torch.equal(twin.state[a]["v"], optimizer.state[a]["v"])


def test_bad_hyper_parameters_are_refused_in_a_sentence() -> None:
    p = [torch.ones(1, requires_grad=True)]
    with pytest.raises(RecipeError, match="did you mean 'adam'"):
        Optimizer(p, "adm")
    with pytest.raises(RecipeError, match="`lr` is -1"):
        Optimizer(p, "sgd", lr=-1)
    with pytest.raises(RecipeError, match="did you mean 'momentum'"):
        Optimizer(p, "momentum", momentun=0.9)


@pytest.mark.parametrize(("name", "same"), [("sgd", True), ("adam", False)])
def test_decay_is_l2_under_sgd_and_not_under_adam(name: str, same: bool) -> None:
    """Decay β = lr·weight_decay against an L2 penalty of λ/m = weight_decay."""
    paths = []
    for by_penalty in (True, False):
        p, state = torch.from_numpy(START.copy()), OPTIMIZERS[name].start(torch.from_numpy(START))
        h = {**OPTIMIZERS[name].defaults, "lr": 0.02, "weight_decay": 0.3}
        for t in range(1, STEPS + 1):
            g = torch.from_numpy(gradient(p.numpy()))
            g = g + penalties.l2_gradient(p, 0.3 * 50, 50) if by_penalty else g
            if not by_penalty:
                OPTIMIZERS[name].decay(p, h)
            OPTIMIZERS[name].update(p, g, state, h, t)
        paths.append(p.numpy())
    assert np.allclose(*paths, rtol=1e-9) == same


def closed(name: str, t: float, total: float) -> float:
    return {
        "constant": 1.0,
        "step": 0.5 ** (t // 3),
        "exponential": 0.9**t,
        "inverse": 1 / (1 + 0.7 * t),
        "cosine": 0.1 + 0.9 * (1 + math.cos(math.pi * t / total)) / 2,
        "one-cycle": (
            0.04 + 0.96 * (1 - math.cos(math.pi * t / (0.3 * total))) / 2
            if t < 0.3 * total
            else 0.1 + 0.9 * (1 + math.cos(math.pi * (t - 0.3 * total) / (0.7 * total))) / 2
        ),
        "warm-restarts": next(
            0.1 + 0.9 * (1 + math.cos(math.pi * (t - start) / (end - start))) / 2
            for start, end in ((0, 2.5), (2.5, 7.5), (7.5, 17.5))
            if start <= t < end
        ),
        "plateau": 0.9**3,
    }[name]


@pytest.mark.parametrize("name", sorted(schedules.SCHEDULES))
@pytest.mark.parametrize("warmup", [0.0, 0.25, 2.0])
def test_schedules_equal_their_closed_form(name: str, warmup: float) -> None:
    h = {
        "gamma": 0.5 if name == "step" else 0.9,
        "every": 3.0,
        "decay": 0.7,
        "final": 0.1,
        "initial": 0.04,
        "peak": 0.3,
        "period": 2.5,
        "growth": 2.0,
        "drops": 3,
    }
    per_epoch, epochs = 10, 12
    for k in range(per_epoch * epochs):
        got = schedules.factor(name, k, per_epoch, epochs, warmup, h)
        if k < warmup * per_epoch:
            assert got == pytest.approx(min(1, (k + 1) / (warmup * per_epoch)))
        else:
            assert got == pytest.approx(closed(name, k / per_epoch - warmup, epochs - warmup))


def test_clipping_equals_the_formula() -> None:
    g = torch.tensor([3.0, 4.0])
    clip_norm(g, 1.0)
    np.testing.assert_allclose(g.numpy(), [0.6, 0.8], rtol=1e-6)
    clip_norm(g, 10.0)
    np.testing.assert_allclose(g.numpy(), [0.6, 0.8], rtol=1e-6)
    zero = torch.zeros(2)
    clip_norm(zero, 1.0)
    assert zero.tolist() == [0, 0]
    clip_value(g, 0.7)
    np.testing.assert_allclose(g.numpy(), [0.6, 0.7], rtol=1e-6)


@pytest.mark.parametrize("name", [k for k, r in OPTIMIZERS.items() if r.fused])
def test_pytorch_s_fused_kernel_gives_the_formula_s_numbers(name: str) -> None:
    rule, h = OPTIMIZERS[name], {**OPTIMIZERS[name].defaults, "lr": 0.02, "eps": 1e-6}
    sizes = (7, 40)
    a, b = ([torch.linspace(-1, 1, n, dtype=torch.float64) for n in sizes] for _ in range(2))
    states = [[rule.start(p) for p in of] for of in (a, b)]
    for t in range(1, 6):
        g = [torch.sin(p * t) * (p > -0.5) for p in a]
        rule.fused(a, g, states[0], h, t)
        for p, slope, state in zip(b, g, states[1], strict=True):
            rule.update(p, slope, state, h, t)
    for p, q in zip(a, b, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["rmsprop", "adam", "adamw"])
def test_rates_of_decay_near_one_keep_their_digits_in_single_precision(name: str) -> None:
    """Two networks side by side whose β differ: in float32, 1 − 0.9999 from a rounded 0.9999 is off by 10⁻⁴ of itself."""
    rule = OPTIMIZERS[name]
    fields = [
        {**rule.defaults, **{k: b for k in ("beta1", "beta2", "rho") if k in rule.defaults}}
        for b in (0.9999, 0.999995)
    ]
    hyper: dict[str, Any] = {}
    for k in rule.defaults:
        values = torch.tensor([[f[k]] for f in fields], dtype=torch.float64)
        hyper[k] = per_network(k, values, torch.float32)
    g = torch.linspace(0.5, 1, 6)
    p = torch.zeros(2, 6)
    state = rule.start(p)
    for t in range(1, 4):
        rule.update(p, g.expand(2, 6), state, hyper, t)
    for row, f in enumerate(fields):
        exact = torch.zeros(6, dtype=torch.float64)
        kept = rule.start(exact)
        for t in range(1, 4):
            rule.update(exact, g.double(), kept, f, t)
        torch.testing.assert_close(p[row].double(), exact, rtol=2e-6, atol=0)


def test_without_clipping_an_infinite_gradient_is_not_scaled() -> None:
    sizes = torch.tensor([[math.inf], [math.inf], [4.0]])
    assert norm_factor(sizes, torch.tensor([[math.inf], [1.0], [1.0]])).tolist() == [
        [1.0],
        [0.0],
        [0.25],
    ]
    assert float(norm_factor(torch.tensor(math.inf), math.inf)) == 1
