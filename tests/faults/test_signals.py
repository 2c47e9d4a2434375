"""Impatient users, closed terminals, two trainings at once: saved, or said not to be."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from danlu import Run


def begin(out: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "danlu", "fit", "digits", *overrides, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


SENT = {
    "once": [signal.SIGINT],
    "twice": [signal.SIGINT] * 2,
    "five times": [signal.SIGINT] * 5,
    "the terminal closed": [signal.SIGHUP],
}


@pytest.mark.parametrize("how", sorted(SENT))
def test_whoever_stops_a_training_is_told_what_is_saved(how: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = begin(out, "epochs=5000")
    assert process.stdout is not None
    while "epoch" not in process.stdout.readline():  # until it trains
        assert process.poll() is None
    for number in SENT[how]:
        os.kill(process.pid, number)
        time.sleep(0.005)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error and "Exception ignored" not in error
    assert "saved; go on with" in error or "not saved since the last checkpoint; go on" in error
    assert Run(out).status == "interrupted"


PRESSED_WHILE_TOLD = """
import os, signal
from danlu.cli.ending import run
from danlu.errors import Interrupted

class Told(Interrupted):
    @property
    def mistakes(self):
        os.kill(os.getpid(), signal.SIGINT)
        return ["the run is saved"]
    @mistakes.setter
    def mistakes(self, _): pass

def told():
    raise Told("the run is saved")

def on_the_way():
    try:
        raise Told("the run is saved")
    finally:
        raise KeyboardInterrupt

def by_typer():
    try:
        on_the_way()
    except KeyboardInterrupt as e:
        raise SystemExit(130) from e

run({app}, own_process=True)
"""


@pytest.mark.parametrize("app", ["told", "on_the_way", "by_typer"])
def test_pressing_again_while_it_is_told_what_is_saved_changes_nothing(app: str) -> None:
    code = PRESSED_WHILE_TOLD.replace("{app}", app)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "danlu: the run is saved\n")


LEARNING = """
import numpy as np
from danlu.data.vocabulary import learn
letters = np.random.default_rng(0).integers(97, 123, 30_000_000, np.uint8)
print("begun", flush=True)
learn([letters.tobytes().decode()], "bpe")
"""


def test_learning_byte_pairs_hears_ctrl_c() -> None:
    """It would take half a minute, and the library hears nothing in the meantime."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEARNING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=10)
    assert error.rstrip().endswith("KeyboardInterrupt")


def test_a_terminal_shows_what_is_read_whatever_it_is_called() -> None:
    code = (
        "import time; from danlu.report.terminal import reading; reading._PATIENCE = 0\n"
        r"with reading.reading_shown('x\[/red][link=a]'): time.sleep(1)"
    )
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=its, env=environment)
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal ends with the process
        while block := os.read(ours, 1 << 16):
            shown += block
    assert process.wait(timeout=60) == 0
    assert rb"reading x\[/red][link=a]" in shown
    assert b"Traceback" not in shown and b"\x1b]8;" not in shown


def test_of_two_trainings_into_one_folder_one_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    both = [begin(out, "epochs=1", f"seed={seed}") for seed in (1, 2)]
    ended = [process.communicate(timeout=60)[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], ended
    assert "exists and is not empty" in ended[codes.index(2)]
    assert Run(out).recipe.seed == codes.index(0) + 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
