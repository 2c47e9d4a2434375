"""What tests of recurrent networks share: how small they are, and on which texts."""

from __future__ import annotations

from typing import Any

import pytest

from danlu import Data
from danlu.models import MODELS

READERS = [k for k, m in MODELS.items() if m.reads_text]
SMALL: dict[str, Any] = {"hidden": (5, 4), "embedding": 3}
FIELDS: dict[str, Any] = {"batch_size": 7, "epochs": 2, "dtype": "float64"}
DATA = ("tagged", "labelled", "running")
EVERY = (*DATA, "paired")


def data_of(name: str, request: pytest.FixtureRequest) -> Data:
    found: Data = request.getfixturevalue(name)
    return found
