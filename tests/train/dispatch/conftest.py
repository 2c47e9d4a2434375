"""A run that nothing interrupted, which others are held against."""

from __future__ import annotations

from pathlib import Path

import pytest
from resuming import RECIPE

from danlu import fit, load


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run."""
    path = tmp_path_factory.mktemp("whole") / "run"
    fit(RECIPE, load("digits"), out=path)
    return path
