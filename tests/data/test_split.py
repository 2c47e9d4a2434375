from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.data import load, split
from danlu.errors import DataError


@pytest.mark.parametrize(
    ("n", "valid", "shares"),
    [
        (100, True, (0.6, 0.2, 0.2)),
        (10_000, True, (0.6, 0.2, 0.2)),
        (10_000, False, (0.7, 0.0, 0.3)),
        (1_000_000, True, (0.98, 0.01, 0.01)),
        (1_000_001, True, (0.995, 0.0025, 0.0025)),
    ],
)
def test_the_default_split_has_the_notes_shares(
    n: int, valid: bool, shares: tuple[float, ...]
) -> None:
    assert split.rule(n, valid) == pytest.approx(shares)


@given(st.integers(1, 3 * 10**6), st.integers(1, 10**6), st.booleans())
def test_the_default_training_share_never_falls_with_more_data(
    n: int, more: int, valid: bool
) -> None:
    assert split.rule(n + more, valid)[0] >= split.rule(n, valid)[0] - 1e-12
    assert sum(split.rule(n, valid)) == pytest.approx(1)


@given(
    st.lists(st.integers(0, 4), min_size=10, max_size=300), st.floats(0.05, 0.6), st.integers(0, 10)
)
def test_draw_is_a_stratified_partition(labels: list[int], share: float, seed: int) -> None:
    y = np.array(labels)
    rest, taken = split.draw(y, len(y), share, seed, "test")
    assert sorted([*rest, *taken]) == list(range(len(y)))
    size = int(len(y) * share + 0.5)
    counts = {c: (int((y == c).sum()), int((y[taken] == c).sum())) for c in np.unique(y)}
    forced = [c for c, (n, _) in counts.items() if n >= 2 and not 1 <= n * size / len(y) <= n - 1]
    for n, got in counts.values():
        assert n < 2 or 1 <= got < n
        if not forced:
            assert abs(got - n * size / len(y)) < 1 + 1e-9
    assert abs(len(taken) - size) <= len(forced)
    again = split.draw(y, len(y), share, seed, "test")
    assert np.array_equal(again[0], rest)


def test_parts_of_digits_are_disjoint_and_complete() -> None:
    data = load("digits")
    index = np.concatenate([data.parts[p].numpy() for p in ("train", "valid", "test")])
    assert sorted(index) == list(range(len(data)))
    assert (data.size("train"), data.size("valid"), data.size("test")) == (1079, 359, 359)
    assert not np.array_equal(load("digits", seed=1).parts["test"], data.parts["test"])


@pytest.mark.parametrize(
    ("text", "shares"),
    [("60/20/20", (0.6, 0.2, 0.2)), ("7/3", (0.7, 0, 0.3)), ((0.5, 0.5), (0.5, 0, 0.5))],
)
def test_shares_given_by_the_user_are_kept(text: str, shares: tuple[float, ...]) -> None:
    assert split.parse(text) == pytest.approx(shares)


@pytest.mark.parametrize("text", ["60", "a/b", "0/1", "-1/2", "60/20/10/10", "nan/1"])
def test_bad_shares_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="`split` is"):
        split.parse(text)


def test_an_official_test_part_stays_whole() -> None:
    x, y = np.zeros((40, 3), np.float32), np.arange(40) % 2
    data = load({"train": (x, y), "test": (x[:10], y[:10])})
    assert data.parts["test"].tolist() == list(range(40, 50))
    assert data.size("train") + data.size("valid") == 40
    assert load({"train": (x, y), "test": (x[:10], y[:10])}, valid=False).size("train") == 40


def test_duplicates_across_parts_are_found() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)).astype(np.float32), np.arange(50) % 2
    test = np.concatenate([x[3:5], rng.normal(size=(8, 4)).astype(np.float32)])
    data = load({"train": (x, y), "test": (test, np.arange(10) % 2)}, valid=False)
    assert data.duplicates() == {("train", "test"): [(3, 50), (4, 51)]}
    assert load("digits").duplicates() == {}


def test_duplicates_ignore_the_sign_of_zero() -> None:
    x = np.arange(1, 181, dtype=np.float32).reshape(60, 3)
    parts = load((x, np.arange(60) % 2), valid=False).parts
    known, asked = int(parts["train"][0]), int(parts["test"][0])
    x[known], x[asked] = 0.0, -0.0
    assert load((x, np.arange(60) % 2), valid=False).duplicates() == {
        ("train", "test"): [(known, asked)]
    }


@pytest.mark.parametrize("columns", [1, 3, 24])
def test_duplicates_equal_a_search_of_every_pair(columns: int) -> None:
    choice = np.random.default_rng(columns).integers(0, 7, (400, -(-columns // 8)))
    x = np.eye(8, dtype=np.float32)[choice].reshape(400, -1)[
        :, :columns
    ]  # most rows occur many times
    data = load((x, np.arange(400) % 2))
    want: dict[tuple[str, str], int] = {}
    for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")):
        known = {r.tobytes() for r in x[data.parts[a]]}
        want[a, b] = sum(r.tobytes() in known for r in x[data.parts[b]])
    assert {k: len(v) for k, v in data.duplicates().items()} == {k: n for k, n in want.items() if n}
