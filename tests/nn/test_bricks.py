"""Bricks against formulas in NumPy float64, values and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from danlu.nn import information, init, loss_gradients, loss_values, losses, penalties
from danlu.nn.layers import ACTIVATIONS, Dropout, PHMLinear, dropout_source
from danlu.rng import seed_of, stream

G = torch.Generator().manual_seed(0)


def logits(scale: float = 3.0) -> torch.Tensor:
    return (
        torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * scale
    ).requires_grad_()


Y = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 0])


def numpy_loss(
    o: np.ndarray, y: np.ndarray, eps: float, w: np.ndarray | None
) -> tuple[float, np.ndarray]:
    """Cross-entropy with ε/(K−1) on the other classes, and its gradient, by the textbook."""
    k = o.shape[1]
    p = np.exp(o - o.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    soft = np.full(o.shape, eps / (k - 1))
    soft[np.arange(len(y)), y] = 1 - eps
    weight = np.ones(len(y)) if w is None else w[y]
    weight = weight / weight.sum()
    log_p = (
        o
        - o.max(1, keepdims=True)
        - np.log(np.exp(o - o.max(1, keepdims=True)).sum(1, keepdims=True))
    )
    return float(-(weight[:, None] * soft * log_p).sum()), weight[:, None] * (p - soft)


@pytest.mark.parametrize("name", ["cross-entropy", "cross-entropy-explicit"])
@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_and_its_gradient_equal_the_formula(
    name: str, eps: float, weighted: bool
) -> None:
    w = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5], dtype=torch.float64) if weighted else None
    o = logits()
    value = losses.LOSSES[name].value(
        o, Y, eps, None if w is None else loss_values.example_weights(Y, w[Y].sum(), w)
    )
    value.backward()
    want, slope = numpy_loss(o.detach().numpy(), Y.numpy(), eps, None if w is None else w.numpy())
    assert float(value.detach()) == pytest.approx(want, rel=1e-12)
    np.testing.assert_allclose(o.grad.numpy(), slope, atol=1e-14)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
@pytest.mark.parametrize("parameter", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_several_networks_equal_autograd(
    name: str, parameter: float, weighted: bool
) -> None:
    """Of three networks at once, each with its own smoothing or γ, and sample weights."""
    rule = losses.LOSSES[name]
    o = logits() if rule.classes else logits()[:, :1].detach().requires_grad_()
    y = Y if rule.classes else torch.randn(12, generator=G, dtype=torch.float64)
    # δ of 0 is no loss, and the recipe refuses it.
    least = 0.1 if name == "huber" else 0.0
    parameters = [parameter, least, 0.7] if parameter else [least] * 3
    counts = torch.randint(0, 3, (3, 12), generator=G) + (torch.arange(12) == 5)
    w = torch.rand(5, generator=G, dtype=torch.float64) + 0.1 if rule.classes else None
    average = torch.tensor([[11.0], [12.5], [7.0]], dtype=torch.float64)
    per = loss_values.example_weights(y[None], average, w, counts) if weighted else None
    three = torch.stack([o.detach().T * (i + 1) for i in range(3)])
    column = torch.tensor(parameters, dtype=torch.float64).view(3, 1, 1) if parameter else least
    for gradient in (rule.gradient, losses.gradient_by_autograd(rule.value)):
        closed, slope = gradient(three.clone(), y[None], column, per)
        for i, own in enumerate(parameters):
            alone = (o.detach() * (i + 1)).requires_grad_()
            value = rule.value(alone, y, own, None if per is None else per[i])
            value.backward()
            torch.testing.assert_close(closed[i], value.detach())
            torch.testing.assert_close(slope[i], alone.grad.T)


def test_an_example_weighs_what_the_training_part_says_not_what_its_batch_says() -> None:
    y, counts = torch.tensor([0, 1, 1, 0]), torch.tensor([2.0, 0.0, 1.0, 1.0])
    assert loss_values.example_weights(y, 4.0, None, counts).tolist() == [0.5, 0, 0.25, 0.25]
    weights = torch.tensor([1.0, 2.0])
    assert loss_values.example_weights(y, 5.0, weights).tolist() == pytest.approx(
        [0.2, 0.4, 0.4, 0.2]
    )
    # Half a batch: each counts twice as much, whatever the other half was.
    half = loss_values.example_weights(y[:2], 2.5, weights)
    assert half.tolist() == pytest.approx([0.4, 0.8])


def test_huber_and_absolute_loss_equal_pytorch_s() -> None:
    o = torch.randn(50, 1, generator=G, dtype=torch.float64) * 3
    y = torch.randn(50, generator=G, dtype=torch.float64)
    for delta in (0.1, 1.0, 5.0):
        want = 2 * F.huber_loss(o[:, 0], y, delta=delta)
        torch.testing.assert_close(loss_values.huber(o, y, delta), want)
    torch.testing.assert_close(loss_values.absolute_error(o, y), F.l1_loss(o[:, 0], y))


def test_the_focal_loss_is_that_of_the_paper() -> None:
    """Lin et al. 2017, eq. 4, by NumPy; γ = 0 is cross-entropy."""
    o = logits()
    p = np.exp(o.detach().numpy())
    p /= p.sum(1, keepdims=True)
    p = p[np.arange(12), Y.numpy()]
    want = np.mean(-((1 - p) ** 2) * np.log(p))
    assert float(loss_values.focal(o, Y, 2.0).detach()) == pytest.approx(want, rel=1e-12)
    plain = loss_values.cross_entropy(o, Y)
    assert float(loss_values.focal(o, Y, 0.0).detach()) == pytest.approx(float(plain.detach()))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_the_focal_gradient_stays_finite_where_all_is_known(gamma: float) -> None:
    o = torch.tensor([[[1e4], [-1e4]], [[0.0], [30.0]], [[-1e4], [1e4]]])
    loss, slope = loss_gradients.focal_gradient(o, torch.tensor([[0]]), gamma)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(slope).all()
    assert float(slope[0].abs().max()) == 0


@pytest.mark.parametrize("name", ["cross-entropy", "cross-entropy-explicit"])
def test_huge_logits_stay_finite(name: str) -> None:
    o = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    value = losses.LOSSES[name].value(o, torch.tensor([1, 2]), 0.0, None)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(o.grad).all()
    assert float(value) == pytest.approx((2e4 + math.log(2)) / 2)


def test_soft_labels_are_those_of_the_notes() -> None:
    soft = loss_values.smooth_labels(torch.tensor([2]), 5, 0.1, torch.float64)
    np.testing.assert_allclose(soft.numpy(), [[0.025, 0.025, 0.9, 0.025, 0.025]])


def test_balanced_weights_are_inverse_to_class_counts() -> None:
    np.testing.assert_allclose(
        losses.balanced_weights(torch.tensor([30, 10])).numpy(), [40 / 60, 2.0]
    )


@settings(max_examples=50)
@given(
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
def test_entropy_and_divergence_obey_their_identities(a: list[float], b: list[float]) -> None:
    p, q = (torch.tensor(v, dtype=torch.float64) / sum(v) for v in (a, b))
    h, c = float(information.entropy(p)), float(information.cross_entropy(p, q))
    assert c >= h - 1e-12
    assert float(information.divergence(p, q)) == pytest.approx(c - h)
    assert h == pytest.approx(float((p * information.self_information(p)).sum()))
    assert float(information.entropy(p, "bits")) == pytest.approx(h / math.log(2))


def test_the_information_of_a_fair_die_is_known() -> None:
    p = torch.full((8,), 1 / 8, dtype=torch.float64)
    assert float(information.entropy(p, "bits")) == pytest.approx(3)
    assert information.perplexity(float(information.entropy(p))) == pytest.approx(8)
    assert float(information.entropy(torch.tensor([1.0, 0.0]))) == 0


def test_penalties_and_their_gradients_equal_the_formulas() -> None:
    w = torch.randn(50, generator=G, dtype=torch.float64, requires_grad=True)
    n = w.detach().numpy()
    for value, slope, want in (
        (
            penalties.l1(w, 0.3, 20, 1e-6),
            penalties.l1_gradient(w, 0.3, 20, 1e-6),
            0.3 / 40 * np.sqrt(n**2 + 1e-6).sum(),
        ),
        (penalties.l2(w, 0.3, 20), penalties.l2_gradient(w, 0.3, 20), 0.3 / 40 * (n**2).sum()),
    ):
        assert float(value) == pytest.approx(want)
        (auto,) = torch.autograd.grad(value, w)
        torch.testing.assert_close(auto, slope)
    for p in (1, 2, 3.5, float("inf")):
        assert float(penalties.norm(w, p)) == pytest.approx(np.linalg.norm(n, p))


def drawn(name: str, shape: tuple[int, ...], std: float = 0.01) -> torch.Tensor:
    return init.INITS[name](shape, *init.fans(shape), std, stream(0, "init", name))


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("normal", 1e-4),
        ("uniform", 1e-4),
        ("xavier", 1 / 400),
        ("glorot", 2 / 700),
        ("he", 2 / 400),
        ("torch", 1 / 1200),
        ("zeros", 0.0),
    ],
)
def test_initial_values_have_the_stated_variances(name: str, variance: float) -> None:
    w = drawn(name, (300, 400))
    assert float(w.var()) == pytest.approx(variance, rel=0.02, abs=1e-12)
    assert abs(float(w.mean())) < 4 * math.sqrt(variance / w.numel()) + 1e-12


def test_uniform_draws_are_bounded_and_fans_count_kernel_area() -> None:
    assert float(drawn("uniform", (300, 400)).abs().max()) <= 0.01 * math.sqrt(3)
    assert init.fans((6, 3, 5, 5)) == (75, 150)
    assert float(drawn("he", (64, 32, 5, 5)).var()) == pytest.approx(2 / 800, rel=0.05)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (8, 3, 5, 5)])
def test_orthogonal_weights_are_orthogonal(shape: tuple[int, ...]) -> None:
    w = drawn("orthogonal", shape).flatten(1)
    gram = w @ w.T if len(w) <= w.shape[1] else w.T @ w
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64))


@pytest.mark.parametrize(
    ("activation", "rule"),
    [("relu", "he"), ("sigmoid", "xavier"), ("tanh", "xavier"), ("leaky-relu", "he")],
)
def test_auto_init_follows_the_activation(activation: str, rule: str) -> None:
    model = nn.Sequential(nn.Linear(4, 5), ACTIVATIONS[activation](), nn.Linear(5, 2))
    assert [r for _, _, r in init.plan(model, "auto", activation)] == [rule, "xavier"]


def test_a_parameter_s_draw_does_not_depend_on_the_others() -> None:
    small = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    large = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2), nn.Linear(2, 2))
    for m in (small, large):
        init.initialise(m, "normal", "relu", 0.1, 0.5, 7)
    assert torch.equal(small[0].weight, large[0].weight)
    assert torch.equal(small[1].weight, large[1].weight)
    assert (small[0].bias == 0.5).all()


def test_streams_of_different_names_have_different_seeds() -> None:
    assert seed_of(0, "init", "a") == seed_of(0, "init", "a")
    assert (
        len(
            {
                seed_of(0, "a"),
                seed_of(1, "a"),
                seed_of(0, "b"),
                seed_of(0, "a", 0),
                seed_of(0, "a", 1),
            }
        )
        == 5
    )
    assert 0 <= seed_of(2**62, "x") < 2**63


def test_dropout_keeps_the_mean_and_draws_from_its_stream() -> None:
    layer, x = Dropout(0.3), torch.ones(400, 500)
    with dropout_source(stream(0, "dropout", 1)):
        a = layer(x)
    with dropout_source(stream(0, "dropout", 1)):
        b = layer(x)
    assert torch.equal(a, b)
    assert float((a == 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert float(a.mean()) == pytest.approx(1, abs=0.005)
    assert torch.equal(layer.eval()(x), x)


def test_phm_linear_equals_the_kronecker_sum_and_has_d_q_over_n_weights() -> None:
    layer = PHMLinear(12, 8, 4).double()
    with torch.no_grad():
        layer.initialise(lambda part: stream(0, "init", part))
    w = sum(torch.kron(layer.mix[i], layer.parts[i]) for i in range(4))
    x = torch.randn(5, 12, generator=G, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ w.T + layer.bias)
    assert layer.parts.numel() == 12 * 8 // 4
    assert sum(p.numel() for p in layer.parameters()) == 12 * 8 // 4 + 4**3 + 8


def test_batch_norm_equals_the_formula() -> None:
    x = torch.randn(30, 4, generator=G, dtype=torch.float64) * 3 + 2
    layer = nn.BatchNorm1d(4).double()
    n = x.numpy()
    np.testing.assert_allclose(
        layer(x).detach().numpy(), (n - n.mean(0)) / np.sqrt(n.var(0) + 1e-5), rtol=1e-10
    )
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * n.mean(0), rtol=1e-10)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * n.var(0, ddof=1), rtol=1e-10)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.4])
def test_dropout_keeps_the_mean_in_bfloat16(p: float) -> None:
    """1/(1 − p) is not rounded to eight bits."""
    layer = Dropout(p).train()
    out = layer(torch.ones(1000, dtype=torch.bfloat16))
    assert out[out > 0].unique().item() == pytest.approx(1 / (1 - p), rel=1e-6)
