"""Addresses at which no Ray cluster answers."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from danlu import Recipe, load
from danlu.errors import RunError
from danlu.train import train

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "nonsense",
            "`ray` is 'nonsense', but must be auto, HOST:PORT or ray://HOST:PORT; try 127.0.0.1:6379",
        ),
        ("127.0.0.1:{closed}", "no one answers there .* start a cluster with: ray start --head"),
        ("ray://127.0.0.1:{closed}", "no one answers there"),
        ("no-such-host.invalid:6379", "no one answers there"),
        ("127.0.0.1:99999", "no one answers there"),
    ],
)
def test_an_address_without_a_cluster_is_refused_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # as before any connection
    with pytest.raises(RunError, match=said) as refused:
        train(
            [Recipe()],
            load("iris"),
            out=tmp_path / "study",
            ray=address.format(closed=closed_port()),
        )
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "study").exists()


def closed_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_the_command_reports_an_unreachable_cluster_in_one_sentence(tmp_path: Path) -> None:
    address = f"127.0.0.1:{closed_port()}"
    given = [sys.executable, "-m", "danlu", "compare", "iris", "optimizer=sgd,adam"]
    given += ["--ray", address]
    # The limit is for one that hangs.
    done = subprocess.run(
        [*given, "--out", str(tmp_path / "c")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "no one answers there" in done.stderr
    assert not (tmp_path / "c").exists()
