"""Which updates are measured."""

from __future__ import annotations

import pytest

from danlu.train.probes.sample import examples_in_half
from danlu.train.probes.schedule import EARLY, Schedule


def measured(per_epoch: int, epochs: int, level: str = "light", sample: float = 1) -> list[int]:
    schedule = Schedule.of(per_epoch, epochs, level, sample)
    return [update for update in range(per_epoch * epochs) if schedule.is_due(update)]


@pytest.mark.parametrize(("per_epoch", "epochs"), [(1, 50), (7, 30), (60, 100), (2000, 3)])
@pytest.mark.parametrize("batch_size", [16, 32, 64, 512])
def test_measuring_takes_a_small_share_of_the_steps(
    per_epoch: int, epochs: int, batch_size: int
) -> None:
    # Both halves forward and backward, one again after the update, all once more forward.
    in_steps = (2 * examples_in_half(batch_size) / batch_size) * (1 + 1 / 2 + 1 / 3)
    times = 2 * examples_in_half(batch_size) / batch_size
    later = set(measured(per_epoch, epochs, sample=times)) - {0, *EARLY}
    assert len(later) * in_steps < 0.03 * per_epoch * epochs


def test_the_first_updates_are_measured_and_some_of_every_third() -> None:
    found = measured(100, 20)
    assert set(EARLY) <= set(found)
    thirds = [sum(a <= u < a + 667 for u in found) for a in (0, 667, 1334)]
    assert min(thirds) >= 3


def test_a_sample_larger_than_a_batch_is_passed_less_often() -> None:
    assert len(measured(100, 4, sample=2)) < len(measured(100, 4))
    assert measured(100, 4, sample=1000) == measured(100, 4, sample=4)
