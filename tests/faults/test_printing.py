"""What is printed: nothing that a terminal obeys, and every text on every terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults.spoiling import say

from danlu import Recipe, fit, load
from danlu.errors import DanluError, printable
from danlu.figures.confusion import figure
from danlu.figures.style import plain
from danlu.report.pages.run_page import write_report

ESCAPE = "\x1b]0;owned\x07\x1b[31m"


def test_control_characters_are_replaced_wherever_something_is_printed(tmp_path: Path) -> None:
    names = [f"a{ESCAPE}", "b\u202ec", "<a href='https://evil'>x</a>"]
    table = tmp_path / "t.csv"
    rows = [f"{i % 7},{i * 31 % 11},{names[i % 3]}" for i in range(300)]
    table.write_text(f"x,y{ESCAPE},target\n" + "\n".join(rows), encoding="utf-8")
    out = tmp_path / "run"
    said = [
        say("fit", table, "epochs=2", "--target", "target", "--out", out),
        say("data", table, "--target", "target"),
        say("show", out),
        say("show", out, "--json"),
        say("evaluate", out),
        say("evaluate", out, "--json"),
        say("predict", out, table),
        say("predict", out, table, "--json"),
        say("fit", table, "epochs=2", "--target", f"no{ESCAPE}"),
        say("show", f"no{ESCAPE}"),
    ]
    for one in said:
        text = one.out + one.err
        assert not {"\x1b", "\x07", "\u202e"} & set(text), text
    assert all(one.code == 0 for one in said[:8]), [one.err for one in said]
    with pytest.raises(DanluError) as e:
        load(f"no{ESCAPE}")
    assert "\x1b" not in str(e.value)
    page = write_report(
        fit(Recipe(epochs=1), load(str(table), target="target"), out=tmp_path / "r")
    )
    assert "<a href='https://evil'" not in page.read_text(encoding="utf-8")
    shown = plain(figure([[1, 2], [3, 4]], ["<a href='x'>y</a>", "b"]))
    assert shown["data"][0]["x"][0] == "&lt;a href='x'>y&lt;/a>"
    assert shown["data"][0]["hovertemplate"].count("<br>") == 2
    assert printable("line\n\tnext 中文 é") == "line\n\tnext 中文 é"


def danlu(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "danlu", *words]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment})


def test_a_terminal_without_utf8_gets_plain_characters(tmp_path: Path) -> None:
    ascii_only = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out = tmp_path / "run"
    fitted = danlu("fit", "digits", "epochs=1", "--out", str(out), **ascii_only)
    assert fitted.returncode == 0, fitted.stderr
    assert b"examples of 1x8x8" in fitted.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="of pipes")
def test_a_training_outlasts_whoever_reads_its_output(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "danlu", "fit", "digits", "epochs=3", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    assert (process.wait(), error) == (0, b"")
    assert say("show", out, "--json").out.count('"status": "finished"') == 1


def test_postscript_called_png_starts_no_program(tmp_path: Path) -> None:
    from faults.hostile import Tripwire
    from PIL import Image

    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        for k in range(12):
            pixels = np.full((8, 8, 3), 20 * k, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{k}.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "cats" / "evil.eps")
    (tmp_path / "cats" / "evil.eps").rename(tmp_path / "cats" / "evil.png")
    wire = Tripwire(tmp_path, Path(os.environ["XDG_CACHE_HOME"]))
    with wire.watching():
        said = say("data", tmp_path)
    assert not wire.trips
    assert "evil.png" in said.out + said.err
    assert "Traceback" not in said.err
