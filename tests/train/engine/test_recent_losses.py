"""The losses of the last steps, by network."""

from __future__ import annotations

import math

import torch

from danlu.train.engine.recent_losses import RecentLosses


def filled(*steps: list[float]) -> RecentLosses:
    recent = RecentLosses(len(steps[0]))
    for losses in steps:
        recent.add(torch.tensor(losses))
    return recent


def test_a_newcomer_has_losses_from_when_it_joined() -> None:
    joined = filled([1.0, 2.0], [3.0, 4.0]).join(1)
    joined.add(torch.tensor([5.0, 6.0, 7.0]))
    assert joined.of(0) == [1, 3, 5]
    assert joined.of(2) == [7]


def test_a_loss_that_is_not_finite_is_kept_at_the_end() -> None:
    first, last = filled([1.0], [math.nan]).of(0)
    assert first == 1
    assert math.isnan(last)


def test_selected_and_restored_they_are_the_same() -> None:
    recent = filled([1.0, 2.0], [3.0, 4.0])
    assert recent.select([1]).of(0) == [2, 4]
    again = RecentLosses(2)
    again.restore(recent.tensors())
    assert again.of(0) == [1, 3]


def test_only_the_last_two_hundred_are_kept() -> None:
    recent = filled(*([float(k)] for k in range(250)))
    assert recent.of(0) == [float(k) for k in range(50, 250)]
