"""Each augmentation against an oracle that takes one image at a time, in plain loops."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats

from danlu.data import Augmenter, augment
from danlu.rng import stream


def sample(image: np.ndarray, row: float, column: float) -> float:
    """Bilinear value at a place; 0 outside."""
    total = 0.0
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(column), math.floor(column) + 1):
            if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]:
                total += image[r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return total


def warp_one(
    image: np.ndarray, degrees: float, factor: float, right: float, down: float
) -> np.ndarray:
    """For every output pixel, undo the shift, the turn (anticlockwise, y points down) and the enlargement."""
    h, w = image.shape
    out, a = np.zeros((h, w)), math.radians(degrees)
    for r in range(h):
        for c in range(w):
            x, y = c - (w - 1) / 2 - right, r - (h - 1) / 2 - down
            x, y = (
                (x * math.cos(a) - y * math.sin(a)) / factor,
                (x * math.sin(a) + y * math.cos(a)) / factor,
            )
            out[r, c] = sample(image, y + (h - 1) / 2, x + (w - 1) / 2)
    return out


def test_warp_equals_the_per_image_oracle_also_on_oblong_pictures() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((4, 2, 9, 12)))
    degrees, factor = torch.tensor([0.0, 30.0, -75.0, 10.0]), torch.tensor([1.0, 1.0, 1.2, 0.8])
    shift = torch.tensor([[2.0, -1.0], [0.0, 0.0], [0.5, 1.5], [-3.0, 2.0]])
    got = augment.warp(x, degrees.double(), factor.double(), shift.double())
    for i in range(4):
        for c in range(2):
            want = warp_one(
                x[i, c].numpy(),
                float(degrees[i]),
                float(factor[i]),
                float(shift[i, 0]),
                float(shift[i, 1]),
            )
            np.testing.assert_allclose(got[i, c].numpy(), want, atol=1e-10)


def test_a_quarter_turn_equals_rot90() -> None:
    x = torch.arange(16.0, dtype=torch.float64).view(1, 1, 4, 4)
    got = augment.warp(
        x, torch.tensor([90.0]).double(), torch.ones(1).double(), torch.zeros(1, 2).double()
    )
    np.testing.assert_allclose(got[0, 0].numpy(), np.rot90(x[0, 0].numpy()), atol=1e-9)


def test_flip_and_crop_equal_loops() -> None:
    x = torch.arange(3 * 2 * 5 * 6.0).view(3, 2, 5, 6)
    mask = torch.tensor([True, False, True])
    got = augment.flip(x, mask)
    for i in range(3):
        assert torch.equal(got[i], x[i].flip(2) if mask[i] else x[i])
    corner = torch.tensor([[0, 4], [2, 2], [3, 1]])
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    for i, (r, c) in enumerate(corner.tolist()):
        np.testing.assert_array_equal(
            augment.crop(x, corner, 2)[i].numpy(), padded[i, :, r : r + 5, c : c + 6]
        )


def test_noise_has_the_stated_spread_and_draws_repeat_by_stream() -> None:
    a = Augmenter(flip=True, rotate=10, scale=0.1, shift=2, crop=1, noise=0.5)
    x = torch.zeros(100, 1, 20, 20)
    noisy = a.add_noise(x, stream(0, "augment", 3))
    assert abs(float(noisy.std()) - 0.5) < 0.01
    image = torch.rand(8, 1, 20, 20)
    once, twice = (a.move(image, stream(0, "augment", 3)) for _ in range(2))
    assert torch.equal(once, twice)
    assert not torch.equal(once, a.move(image, stream(0, "augment", 4)))


def test_an_augmenter_without_fields_changes_nothing() -> None:
    x = torch.rand(2, 1, 4, 4)
    a = Augmenter()
    assert not a.moves
    assert torch.equal(a.add_noise(a.move(x, stream(0, "augment", 0)), stream(0, "augment", 0)), x)


def test_a_hidden_square_lies_where_it_was_drawn() -> None:
    x = torch.ones(3, 2, 6, 8)
    u = torch.tensor([[0.0, 0.5, 0.99], [0.0, 0.5, 0.99]], dtype=torch.float64)
    got = augment.cut_out(x, u, 3).numpy()
    for i, (row, column) in enumerate(((0, 0), (3, 4), (5, 7))):
        want = np.ones((6, 8))
        for r in range(row - 1, row + 2):
            for c in range(column - 1, column + 2):
                if 0 <= r < 6 and 0 <= c < 8:
                    want[r, c] = 0
        assert (got[i] == want).all()


def test_brightness_and_inversion_change_each_picture_by_its_own_draw() -> None:
    x = torch.rand(200, 1, 4, 4) * 200 + 20
    brighter = Augmenter(brightness=0.4).move(x, stream(0, "augment", 1)) / x
    factors = brighter.flatten(1)
    torch.testing.assert_close(factors, factors[:, :1].expand(-1, 16))
    assert 0.6 <= float(factors.min()) < 0.65
    assert 1.35 < float(factors.max()) <= 1.4
    inverted = Augmenter(invert=0.25).move(x, stream(0, "augment", 1))
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    is_changed = (inverted != x).flatten(1).any(1)
    torch.testing.assert_close(inverted[is_changed], (low + high - x)[is_changed])
    assert 0.15 < float(is_changed.float().mean()) < 0.35


def test_the_weight_of_a_mixture_is_beta_distributed() -> None:
    weights, fixed = [], 0
    for k in range(2000):
        weight, partner = augment.mixture(0.4, 8, stream(0, "mixup", k))
        weights.append(weight)
        fixed += int((partner == torch.arange(8)).sum())
        assert sorted(partner.tolist()) == list(range(8))
    assert stats.kstest(weights, stats.beta(0.4, 0.4).cdf).pvalue > 0.001
    assert 1500 < fixed < 2500  # one of a random permutation's places is fixed on average
