"""The command line in this process, and a run to use it on."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from danlu.cli import main


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def danlu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command line in this process."""

    def run(*words: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "argv", ["danlu", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = 0
        try:
            main()
        except SystemExit as e:
            code = int(e.code or 0)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def digits_run(danlu: Any, tmp_path: Path) -> Path:
    assert (
        danlu("fit", "digits", "epochs=4", "model.dropout=0.1", "--out", tmp_path / "run").code == 0
    )
    return tmp_path / "run"
