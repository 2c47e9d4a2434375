"""Spaces of a search: ranges, choices, how they are written and narrowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import BASE, SPACE

from danlu import Data, load, tune
from danlu.errors import RecipeError
from danlu.study import space
from danlu.study.space import Choice, Range, Settled, parse


def test_a_section_is_searched_by_its_short_name(digits: Data, tmp_path: Path) -> None:
    t = tune(
        digits,
        ["optimizer=sgd,adam", "lr=1e-3..1e-1:log"],
        recipe=BASE,
        trials=6,
        rounds=2,
        out=tmp_path / "t",
    )
    assert {x.values["optimizer.name"] for x in t.ranked} <= {"sgd", "adam"}
    assert t.best_lines(1)[0].startswith("Best-1 (valid accuracy")


def test_ranges_are_parsed() -> None:
    settled = space.parse(
        [
            *SPACE,
            "batch_size=16..64:log",
            "optimizer.beta1=0.5..0.99",
            "seed=3",
            "model.activation=tanh",
        ]
    )
    searched = settled.searched
    assert searched["optimizer.lr"] == Range(1e-5, 0.1, True)
    assert searched["epochs"] == Range(1, 3, whole=True)
    assert searched["batch_size"] == Range(16, 64, True, True)
    assert searched["model.hidden"] == Choice(([8], [16]))
    assert settled.fixed == {"seed": 3, "model.activation": "tanh"}


@settings(deadline=None)
@given(
    st.floats(1e-6, 1e3),
    st.floats(1.001, 1e6),
    st.booleans(),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
)
def test_a_narrowed_range_lies_within_and_holds_the_best(
    low: float, ratio: float, log: bool, shares: list[float]
) -> None:
    whole = Range(low, low * ratio, log)
    best = [low * ratio**s for s in shares]
    part = whole.narrowed(best)
    assert whole.low <= part.low < part.high <= whole.high
    assert part.low <= min(best) * 1.0000001
    assert max(best) <= part.high * 1.0000001


def test_layers_that_do_not_go_together_are_drawn_again(tmp_path: Path) -> None:
    """Each value goes with the first of the other field, and not all with all."""
    t = tune(load("digits"), ["model.phm_n=1,4", "model.hidden=64,30", "lr=1e-3..1e-2:log"],
             recipe=BASE, trials=12, out=tmp_path / "t")  # fmt: skip
    drawn = {(x.values["model.phm_n"], x.values["model.hidden"][0]) for x in t.ranked}
    assert drawn == {(1, 64), (1, 30), (4, 64)}


def test_ranges_narrow_where_the_best_agree() -> None:
    assert Range(1, 9, whole=True).narrowed([9] * 5) == Range(8, 9, whole=True)
    assert Range(1e-5, 1e-1, log=True).narrowed([1e-3]).high == pytest.approx(1e-3 * 10**0.2)
    assert Range(0, 100).narrowed([50.0] * 5) == Range(45, 55)


def test_a_space_is_written_in_python(digits: Data, tmp_path: Path) -> None:
    given = {
        "lr": Range(1e-3, 1e-2, log=True),
        "epochs": Range(1, 2),
        "model.hidden": [[8], [4, 4]],
        "batch_size": 16,
    }
    t = tune(
        digits, {**given, "model.dropout": "0.1..0.2"}, recipe=BASE, trials=4, out=tmp_path / "t"
    )
    for x in t.ranked:
        assert isinstance(x.values["epochs"], int)
        assert x.values["model.hidden"] in ([8], [4, 4])
        assert 0.1 <= x.values["model.dropout"] <= 0.2
    assert {r.batch_size for r in t.study.recipes} == {16}
    with pytest.raises(RecipeError, match=r"`lr=../runs` is not a range of numbers"):
        tune(digits, {"lr": "../runs"}, recipe=BASE, out=tmp_path / "u")
    fixed = parse(["init.weights=../runs/a", "model.args.width=16..64"])
    assert fixed == Settled(
        {"model.args.width": Range(16, 64, whole=True)},
        {"init.weights": "../runs/a"},
    )
