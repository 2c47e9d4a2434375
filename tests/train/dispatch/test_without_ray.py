"""Where Ray is not installed."""

from __future__ import annotations

import sys

import pytest

from danlu.errors import RunError
from danlu.train.dispatch import cluster


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RunError, match=r"Ray is not installed; pip install 'danlu\[ray\]'"):
        cluster.connect("auto")
