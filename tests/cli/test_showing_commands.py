"""Commands that show runs, data and networks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from danlu import Recipe, Run
from danlu.data import Schema
from danlu.recipe.build import build_model
from danlu.report.terminal.json_output import print_json


def test_evaluate_show_and_report_agree_with_the_run(danlu: Any, digits_run: Path) -> None:
    said = json.loads(danlu("evaluate", digits_run, "--json").out)
    assert said["accuracy"] == Run(digits_run).result["test_accuracy"]
    assert said["loss in bits"] == pytest.approx(said["loss"] / np.log(2))
    assert said["perplexity"] == pytest.approx(np.exp(said["loss"]))
    assert "training" in danlu("show", digits_run).out
    assert json.loads(danlu("show", digits_run, "--json").out)["status"] == "finished"
    assert danlu("report", digits_run).out.strip().endswith("report.html")
    assert "`part` is 'some'" in danlu("evaluate", digits_run, "--part", "some").err
    assert json.loads(danlu("evaluate", digits_run, "digits", "--json").out)["examples"] == 1797
    assert "the data have shape (4,)" in danlu("evaluate", digits_run, "iris").err
    assert danlu("evaluate", digits_run, "digits", "--part", "valid").code == 0


def test_runs_names_runs_that_it_cannot_read(danlu: Any, runs_folder: Path) -> None:
    danlu("fit", "iris", "epochs=1")
    old = runs_folder / "old"
    old.mkdir()
    (old / "run.json").write_text('{"format": 1}')
    (old / "weights.safetensors").write_bytes(b"")
    listed = danlu("runs")
    assert "iris" in listed.out
    assert "damaged" in listed.out
    assert "old cannot be read: " in listed.err
    assert "made by an earlier danlu, so train it again" in listed.err
    assert "made by an earlier danlu" in danlu("fit", "iris", f"init.weights={old}").err


def test_runs_lists_every_run(danlu: Any) -> None:
    assert "no run under" in danlu("runs").out
    danlu("fit", "iris", "epochs=2", "--json")
    assert "finished" in danlu("runs").out
    assert json.loads(danlu("runs", "--json").out)["source"] == "iris"
    assert "iris" in danlu("show", "last").out


def test_data_describes_a_source(danlu: Any, tmp_path: Path) -> None:
    out = danlu("data", "wine", "--html", tmp_path / "wine.html").out
    for words in (
        "class_1",
        "alcohol",
        "Rank 13 of 13 features",
        "No value is missing.",
        "No example lies in two parts.",
    ):
        assert words in out
    assert "alcohol" in (tmp_path / "wine.html").read_text()
    table = tmp_path / "t.csv"
    rows = [f"{i},7,{i * i}" for i in range(40)]
    table.write_text("a,same,price\n" + "\n".join([*rows, ",7,3", "5,,4"]))
    for text in (
        danlu("data", table, "--target", "price", "--html", tmp_path / "t.html").out,
        (tmp_path / "t.html").read_text(),
    ):
        for words in (
            "Missing values: 1 in a, 1 in same.",
            "Target price: mean",
            "number",
        ):
            assert words in text
    told = danlu("fit", table, "--target", "price", "epochs=1").err
    assert "missing cells filled: 1 in a, 1 in same; --missing drop leaves out" in told
    out = tmp_path / "run"
    short = ["--target", "price", "--missing", "drop", "epochs=1", "batch_size=8"]
    told = danlu("fit", table, *short, "--out", out).err
    assert "40 of 42 rows kept, those without missing cells" in told
    assert "a: 1 missing cell filled, as training had none" in danlu("predict", out, table).err
    refused = danlu("evaluate", out, "--missing", "drop", "--mode", "L").err
    assert "`mode` is 'L', but must be left out without another SOURCE" in refused
    assert "`missing`" in refused
    fitted = json.loads(danlu("fit", table, *short, "--json").out)
    assert fitted["result"]["epochs"] == 1
    said = json.loads(danlu("data", "digits", "--json").out)
    assert said["parts"] == {"train": 1079, "valid": 359, "test": 359}
    assert (
        "<img"
        in (
            danlu("data", "digits", "--html", tmp_path / "d.html"),
            (tmp_path / "d.html").read_text(),
        )[1]
    )


def test_summary_prints_the_layers(danlu: Any) -> None:
    out = danlu("summary", "model=cnn", "input=1x28x28").out
    assert "6×24×24" in out
    assert "6,422 parameters, 149,300 multiply-adds" in out
    assert json.loads(danlu("summary", "--input", "13", "--classes", "3", "--json").out)[-1][
        "output"
    ] == [3]


@pytest.mark.parametrize(
    ("preset", "kind", "schema"),
    [
        ("language", "a language model", Schema("language", (30,), tokens=50)),
        ("tagging", "a tagger", Schema("tagging", (30,), tuple("abcdefg"), tokens=50)),
        (
            "text-classification",
            "a classifier of texts",
            Schema("classification", (30,), tuple("abcdefg"), tokens=50),
        ),
        ("translation", "an encoder and a decoder", Schema("pairs", (61,), tokens=50, source=30)),
    ],
)
def test_summary_prints_parameters_and_kind_of_a_text_network(
    danlu: Any, preset: str, kind: str, schema: Schema
) -> None:
    out = danlu("summary", "-r", preset, "input=30", "--vocabulary", "50", "--classes", "7").out
    total = sum(p.numel() for p in build_model(Recipe.read(preset), schema).parameters())
    assert f"{total:,} parameters" in out and f"({kind})" in out


def test_nan_and_infinity_are_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": math.inf, "rows": [math.nan, 1.5], "pair": (1, "王")})
    assert capsys.readouterr().out == '{"loss": null, "rows": [null, 1.5], "pair": [1, "王"]}\n'
