"""The tests of a round keep their error rate, on figures that are drawn: nothing is trained."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from danlu import Recipe
from danlu.statistics import Estimate
from danlu.study.treating.candidates import Candidate
from danlu.study.treating.gains import Scale, levels_of_tests
from danlu.study.treating.rounds import Confirmation, Round, Screening, confirm

CONTROL = Recipe(optimizer={"name": "adam", "lr": 0.5})
SCALE = Scale("valid_accuracy", 0.1, 10_000)
EDITS = [Candidate((f"optimizer.lr={0.001 * (k + 1):g}",), "lr_too_low") for k in range(6)]


def drawn(rng: np.random.Generator, effects: dict[float, float], spread: float = 0.02) -> Any:
    """Figures of trainings that never took place: luck shared by a seed, and some of its own."""
    luck: dict[Any, float] = {}

    def figures(recipe: Recipe, seeds: Any) -> list[float]:
        found = []
        for seed in seeds:
            shared = luck.setdefault(seed, rng.normal(0, spread))
            own = luck.setdefault((recipe.optimizer.lr, seed), rng.normal(0, spread))
            found.append(0.5 + shared + own + effects.get(recipe.optimizer.lr, 0.0))
        return found

    return figures


def a_round(rng: np.random.Generator, effects: dict[float, float]) -> Screening:
    planned = Round([], [], EDITS, [0, 1, 2], [3, 4, 5, 6, 7], [8, 9, 10, 11, 12], pairs=[])
    return Screening(planned, CONTROL, SCALE, drawn(rng, effects))


def confirmed(screening: Screening, has_time: bool = True) -> Candidate | None:
    """What the tests of a round show."""

    def gain_in(test: Confirmation) -> Estimate | None:
        if screening.round.tests and not has_time:
            return None
        ours = screening.figures(test.candidate.apply(screening.control), test.seeds)
        return SCALE.gain(ours, screening.figures(screening.control, test.seeds), test.level)

    return confirm(screening.round, screening.ranked(), levels_of_tests(False), gain_in)


def test_a_gain_is_claimed_of_nothing_no_more_often_than_said() -> None:
    rng = np.random.default_rng(0)
    rounds = [a_round(rng, {}) for _ in range(3000)]
    claims = sum(confirmed(screening) is not None for screening in rounds)
    # 2.5 % at most, and what 3000 rounds leave to chance.
    assert claims / 3000 < 0.025 + 3 * math.sqrt(0.025 * 0.975 / 3000)


def test_what_fresh_seeds_leave_open_is_tested_on_further_ones() -> None:
    """A gain of one spread: five seeds seldom show it, ten mostly do."""
    rng = np.random.default_rng(1)
    found = {True: 0, False: 0}
    for _ in range(300):
        for has_time in found:
            screening = a_round(rng, {0.003: 0.04})
            chosen = confirmed(screening, has_time)
            found[has_time] += chosen == EDITS[2]
            if not screening.round.tests:
                continue  # nothing gained in screening
            first, *more = screening.round.tests
            assert first.seeds == [3, 4, 5, 6, 7]
            assert has_time or not more
            for test in more:
                is_again = test.candidate == first.candidate
                assert test.seeds == list(range(3, 13)) or not is_again
                assert test.level > first.level
    assert found[True] > found[False] + 60


def test_rounds_are_kept_whole() -> None:
    screening = a_round(np.random.default_rng(4), {0.003: 0.04})
    confirmed(screening)
    assert screening.round.tests
    assert Round.from_json(json.loads(json.dumps(screening.round.to_json()))) == screening.round


def test_what_is_no_worse_is_seldom_dropped_and_what_is_much_worse_is() -> None:
    rng = np.random.default_rng(1)
    dropped = bad = 0
    for _ in range(200):
        screening = a_round(rng, {0.001: -0.45})
        alive = screening.survivors(1)
        dropped += len(EDITS) - 1 - len([c for c in alive if c != EDITS[0]])
        bad += EDITS[0] not in alive
    assert dropped / (200 * (len(EDITS) - 1)) < 0.05
    assert bad / 200 > 0.3


def test_the_best_is_chosen() -> None:
    screening = a_round(np.random.default_rng(2), {0.004: 0.3})
    assert screening.ranked()[0] == EDITS[3]


def test_seeds_that_gain_the_same_differ_by_an_example_at_most() -> None:
    gain = Scale("valid_accuracy", 0.1, 30).gain([1.0] * 5, [0.4] * 5)
    assert isinstance(gain, Estimate)
    half = 2.776445105 / 30 / math.sqrt(5)
    assert (gain.low, gain.high) == pytest.approx((0.6 - half, 0.6 + half))
    none = Scale("valid_f1", 0.0, 30).gain([0.5] * 5, [0.5] * 5)
    assert none.low < 0 < none.high
    assert math.isnan(Scale("valid_r2", 0.0, 30).gain([1.0] * 5, [0.4] * 5).low)
