"""Data and a search that several tests look at."""

from __future__ import annotations

import pytest
from searches import BASE, SPACE

from danlu import Data, Tuning, load, tune


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.fixture(scope="module")
def found(digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    return tune(
        digits, SPACE, recipe=BASE, trials=24, rounds=2, out=tmp_path_factory.mktemp("t") / "study"
    )
