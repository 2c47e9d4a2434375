"""What tests of texts share: how small a network is, and the command line in this process."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from danlu.cli import main

SMALL: dict[str, Any] = {"hidden": (12,), "embedding": 6}


def says(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as e:
        patch.setattr(sys, "argv", ["danlu", *args])
        main()
    told = capsys.readouterr()
    return int(e.value.code or 0), told.out, told.err
