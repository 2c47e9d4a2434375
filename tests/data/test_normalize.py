from __future__ import annotations

import numpy as np
import pytest
import torch

from danlu.data import KINDS, load


def table(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)) * [1, 10, 100, 0.1, 3]
        + [0, 5, 1000, 0, -3]
    ).astype(np.float32)


FORMULAS = {
    "none": lambda x, t: x,
    "minmax": lambda x, t: (x - t.min(0)) / (t.max(0) - t.min(0)),
    "minmax-symmetric": lambda x, t: 2 * (x - t.min(0)) / (t.max(0) - t.min(0)) - 1,
    "zscore": lambda x, t: (x - t.mean(0)) / t.std(0),
    "robust": lambda x, t: robust(x, t),
    "clipped": lambda x, t: np.clip(robust(x, t), -4, 4),
}


def robust(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    low, median, high = np.quantile(train, [0.25, 0.5, 0.75], axis=0, method="nearest")
    return (x - median) / ((high - low) / 1.3489795)


@pytest.mark.parametrize("kind", ["robust", "clipped"])
def test_outliers_do_not_move_the_scale_of_the_others(kind: str) -> None:
    x = table()
    data = load((x, np.arange(400) % 2))
    spoilt = x.copy()
    spoilt[data.parts["train"][:3].numpy()] = 1e6
    other = load((spoilt, np.arange(400) % 2))
    before, after = (d.normalizer(kind)(torch.from_numpy(x)) for d in (data, other))
    assert float((before - after).abs().max()) < 0.2
    far = other.normalizer(kind)(torch.from_numpy(spoilt)).abs().max()
    assert float(far) == 4 if kind == "clipped" else float(far) > 1000


def test_where_most_values_are_equal_the_rest_gives_the_scale() -> None:
    x = np.zeros((400, 2), np.float32)
    x[::3, 0] = np.linspace(1, 2, 134)
    scaled = load((x, np.arange(400) % 2)).normalizer("robust")(torch.from_numpy(x))
    assert 1 < float(scaled[:, 0].abs().max()) < 10
    assert float(scaled[:, 1].abs().max()) == 0


@pytest.mark.parametrize("kind", ["robust", "clipped"])
def test_pictures_are_scaled_by_the_quartiles_of_a_channel(kind: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (200, 3, 8, 8)).astype(np.uint8)
    data = load((x, np.arange(200) % 2))
    train = x[data.parts["train"]].astype(np.float64)
    channels = np.moveaxis(train, 1, 0).reshape(3, -1).T
    want = FORMULAS[kind](np.moveaxis(x.astype(float), 1, 3), channels)
    got = data.normalizer(kind)(data.x).numpy()
    np.testing.assert_allclose(np.moveaxis(got, 1, 3), want, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(FORMULAS))
def test_tables_equal_the_formula_fitted_on_training_alone(kind: str) -> None:
    x = table()
    data = load((x, np.arange(400) % 2))
    train = x[data.parts["train"]].astype(np.float64)
    got = data.normalizer(kind)(data.part("test")[0]).numpy()
    want = FORMULAS[kind](x[data.parts["test"]].astype(np.float64), train)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_leaks_from_valid_and_test(kind: str) -> None:
    x = table()
    data = load((x, np.arange(400) % 2))
    held = np.concatenate([data.parts["valid"], data.parts["test"]])
    spoilt = x.copy()
    spoilt[held] *= 1000
    other = load((spoilt, np.arange(400) % 2))
    for a, b in zip(
        data.normalizer(kind).tensors().values(),
        other.normalizer(kind).tensors().values(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_whitened_training_features_have_identity_covariance() -> None:
    data = load((table(), np.arange(400) % 2))
    white = data.normalizer("whiten").to("cpu", torch.float64)(data.part("train")[0])
    centred = white - white.mean(0)
    assert torch.allclose(
        centred.T @ centred / len(white), torch.eye(5, dtype=torch.float64), atol=1e-3
    )
    assert white.mean(0).abs().max() < 1e-3


def test_whitening_drops_directions_without_variance() -> None:
    x = table()
    x[:, 2] = x[:, 0] + x[:, 1]  # rank 4
    data = load((x, np.arange(400) % 2))
    white = data.normalizer("whiten")(data.part("train")[0])
    variances = white.var(0, correction=0)
    assert torch.isfinite(white).all()
    assert ((variances - 1).abs() < 0.02).sum() == 4
    assert (variances < 1e-3).sum() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_constant_features_stay_finite(kind: str) -> None:
    x = table()
    x[:, 1] = 7
    data = load((x, np.arange(400) % 2))
    assert torch.isfinite(data.normalizer(kind)(data.x)).all()


def test_pictures_share_statistics_per_channel() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (60, 3, 4, 4), dtype=np.uint8)
    data = load((x, np.arange(60) % 2))
    train = x[data.parts["train"]].astype(np.float64)
    want = (x - train.mean((0, 2, 3), keepdims=True)) / train.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(data.normalizer("zscore")(data.x).numpy(), want, atol=1e-5)
    assert data.x.dtype == torch.uint8


@pytest.mark.data
def test_mnist_has_the_known_mean_and_spread() -> None:
    data = load("mnist", valid=False)
    n = data.normalizer("zscore")
    assert float(n.shift) / 255 == pytest.approx(0.1307, abs=5e-5)
    assert 1 / float(n.scale) / 255 == pytest.approx(0.3081, abs=5e-5)
