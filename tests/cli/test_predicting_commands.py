"""Commands that use a trained network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from danlu import Run, load


def picture(path: Path, i: int = 0) -> Path:
    x = load("digits").x[i, 0].numpy()
    Image.fromarray(x).save(path)
    return path


def test_predict_reads_pictures_a_folder_stdin_and_reports_the_spread(
    danlu: Any, digits_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    files = [picture(folder / f"{i}.png", i) for i in range(3)]
    rows = [
        json.loads(line) for line in danlu("predict", digits_run, *files, "--json").out.splitlines()
    ]
    assert [r["input"] for r in rows] == [str(f) for f in files]
    want = Run(digits_run).predict(load("digits").x[:3])
    assert [r["class"] for r in rows] == want.labels
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert [r["class"] for r in rows] == [
        json.loads(line)["class"]
        for line in danlu("predict", digits_run, folder, "--json").out.splitlines()
    ]
    from_pipe = json.loads(
        danlu("predict", digits_run, "-", "--json", stdin=files[0].read_bytes()).out
    )
    assert from_pipe["class"] == rows[0]["class"]
    listed = danlu("predict", digits_run, "-", stdin="\n".join(map(str, files)).encode()).out
    assert len([line for line in listed.splitlines() if line.strip()]) == 4  # a head and three rows
    spread = json.loads(danlu("predict", digits_run, files[0], "--samples", "20", "--json").out)
    assert 0 < spread["spread"] < 0.5
    big = tmp_path / "big.png"
    Image.new("RGB", (50, 40)).save(big)
    told = danlu("predict", digits_run, big)
    assert told.code == 0 and "1 picture of another size brought to 8×8" in told.err
    silent = danlu("predict", digits_run, big, "--resize")
    assert silent.out == told.out and not silent.err
    r = danlu("predict", digits_run, tmp_path / "none.png", tmp_path)
    assert "there is no such file" in r.err


def test_predict_reads_rows_of_a_table(danlu: Any, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    rows = [f"{i % 7},{'red' if i % 2 else 'blue'},{'yes' if i % 2 else 'no'}" for i in range(200)]
    table.write_text("a,colour,answer\n" + "\n".join(rows))
    assert (
        danlu(
            "fit", table, "--target", "answer", "epochs=30", "lr=0.01", "--out", tmp_path / "run"
        ).code
        == 0
    )
    said = danlu("predict", tmp_path / "run", "-", stdin=b"colour,a\nred,3\nblue,2\n").out
    assert "yes" in said
    assert "no" in said
    assert (
        "lacks the column 'colour'" in danlu("predict", tmp_path / "run", "-", stdin=b"a\n3\n").err
    )
    odd = danlu("predict", tmp_path / "run", "-", stdin=b"b,colour,a\n9,green,x\n")
    assert odd.code == 0
    assert "colour: 1 cell with 'green', unknown to the run" in odd.err
    assert "a: 1 cell of no number as the run knows it, taken as missing" in odd.err


def test_predict_of_a_regression_gives_numbers(danlu: Any, tmp_path: Path) -> None:
    danlu("fit", "diabetes", "epochs=30", "--out", tmp_path / "run")
    run = Run(tmp_path / "run")
    header = ",".join(c.name for c in run.schema.columns)
    data = load("diabetes")
    row = ",".join(f"{v}" for v in data.x[0].tolist())
    value = json.loads(
        danlu("predict", tmp_path / "run", "-", "--json", stdin=f"{header}\n{row}\n".encode()).out
    )["value"]
    assert value == pytest.approx(float(run.predict(data.x[:1]).values[0]), rel=1e-4)
    assert 25 < value < 346
    assert (
        "needs a network with dropout"
        in danlu(
            "predict", tmp_path / "run", "-", "--samples", "3", stdin=f"{header}\n{row}\n".encode()
        ).err
    )
