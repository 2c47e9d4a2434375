"""Every command on real data, and every mistake as a sentence."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from danlu import Recipe, Run, load
from danlu.cli import main
from danlu.data import Schema
from danlu.runs.run import build_model


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


def picture(path: Path, i: int = 0) -> Path:
    x = load("digits").x[i, 0].numpy()
    Image.fromarray(x).save(path)
    return path


def test_fit_prints_progress_table_verdict_and_path(danlu: Any, runs_folder: Path) -> None:
    r = danlu("fit", "digits", "epochs=3")
    assert r.code == 0
    for words in (
        "epoch 3/3",
        "test ",
        "Test accuracy is",
        "95 % interval",
        "always answering",
        "report.html",
    ):
        assert words in r.out
    (run,) = runs_folder.iterdir()
    assert {f.name for f in run.iterdir()} >= {
        "recipe.toml", "data.json", "run.json", "metrics.jsonl", "weights.safetensors", "report.html", "normalizer.safetensors"
    }  # fmt: skip
    assert not list(run.rglob("*.pkl")) + list(run.rglob("*.pt"))


def test_fit_json_is_one_value(danlu: Any) -> None:
    said = json.loads(danlu("fit", "iris", "--json", "epochs=2").out)
    assert said["result"] == Run(said["run"]).result
    assert said["verdict"]


def test_mistakes_of_recipe_and_source_come_together(danlu: Any) -> None:
    r = danlu("fit", "digitz", "optimizer=adm", "epochs=0")
    assert r.code == 2
    assert "Traceback" not in r.err
    lines = r.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("danlu: ") for line in lines)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fit", "digits", "lr=fast"], "`optimizer.lr` is 'fast', but must be a number"),
        (["fit", "digits", "model=cnn"], "`conv2` needs an input of at least 5×5"),
        (["fit", "digits", "-r", "nope"], "`recipe` is 'nope'"),
        (["resume", "nowhere"], "is no run folder"),
        (["evaluate", "last"], "there is no run under"),
        (["summary", "input=3x"], "`input` is '3x', but must be a shape"),
        (["recipe", "check", "missing.toml"], "`recipe` is 'missing.toml'"),
        (["data", "digits", "--split", "1/2/3/4"], "`split` is '1/2/3/4'"),
    ],
)
def test_each_mistake_is_a_sentence_and_exit_code_2(
    danlu: Any, words: list[str], sentence: str
) -> None:
    r = danlu(*words)
    assert r.code == 2
    assert sentence in r.err
    assert "Traceback" not in r.err


def test_evaluate_show_runs_report(danlu: Any, digits_run: Path) -> None:
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


def test_runs_of_another_format_are_told_not_hidden(danlu: Any, runs_folder: Path) -> None:
    danlu("fit", "iris", "epochs=1")
    old = runs_folder / "old"
    old.mkdir()
    (old / "run.json").write_text('{"format": 1}')
    (old / "weights.safetensors").write_bytes(b"")
    listed = danlu("runs")
    assert "iris" in listed.out
    assert "not shown: 1 run under" in listed.err
    assert "made by an earlier danlu" in danlu("fit", "iris", f"init.weights={old}").err


def test_comparisons_start_from_runs_by_name(danlu: Any, runs_folder: Path) -> None:
    for name, epochs in (("young", 1), ("old", 30)):
        danlu("fit", "iris", f"epochs={epochs}", "--out", str(runs_folder / name))
    done = danlu(
        "compare",
        "iris",
        "init.weights=young,old",
        "epochs=1",
        "lr=1e-9",
        "--seeds",
        "2",
        "--json",
    )
    young, old = (v["mean"]["mean"] for v in json.loads(done.out)["variants"])
    assert young < old - 0.1
    done = danlu(
        "compare",
        "iris",
        "init.weights=none,old",
        "init.frozen=false",
        "epochs=1",
        "lr=1e-9",
        "--seeds",
        "2",
        "--json",
    )
    scratch, again = (v["mean"]["mean"] for v in json.loads(done.out)["variants"])
    assert scratch < again - 0.1 and again == old
    assert "has an empty value" in danlu("compare", "iris", "init.weights=,old", "--seeds", "2").err
    assert (
        danlu("tune", "iris", "from_run=old", "lr=1e-9..1e-8", "--trials", "2", "epochs=1").code
        == 0
    )
    assert (
        "`init.weights` is 'never', but must be a finished run"
        in danlu("compare", "iris", "init.weights=young,never").err
    )


def test_a_default_batch_is_no_larger_than_the_training_part(danlu: Any, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("the cat sat on the mat.\n" * 30)
    small = ("model.hidden=4", "model.embedding=4", "epochs=1", "--json")
    done = danlu("fit", str(tmp_path / "t.txt"), *small)
    assert (
        done.code == 0
        and "batch_size = 5" in (Path(json.loads(done.out)["run"]) / "recipe.toml").read_text()
    )
    assert (
        danlu("fit", "digits", "--limit", "20", "epochs=1", "--json").code == 0
    )  # whose own preset has 32
    said = danlu("fit", str(tmp_path / "t.txt"), *small, "batch_size=6")
    assert "`batch_size` is 6, but must be at most the 5 training examples; try 5" in said.err


def test_slow_arithmetic_is_told(danlu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for has, told in ((True, False), (False, True)):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda has=has: has)
        for command in (("fit", "iris"), ("compare", "iris", "lr=0.1,0.2", "--seeds", "2")):
            out = danlu(*command, "epochs=1", "dtype=bf16-mixed").out
            assert (
                "has no instructions for bfloat16: float32 is many times as fast here"
                in " ".join(out.split())
            ) == told
    assert "bfloat16" not in danlu("fit", "iris", "epochs=1").out


def test_runs_lists(danlu: Any) -> None:
    assert "no run under" in danlu("runs").out
    danlu("fit", "iris", "epochs=2", "--json")
    assert "finished" in danlu("runs").out
    assert json.loads(danlu("runs", "--json").out)["source"] == "iris"
    assert "iris" in danlu("show", "last").out


def test_predict_pictures_folder_stdin_and_spread(
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
    assert (
        "big.png is 40×50, but the network takes 8×8; use --resize"
        in danlu("predict", digits_run, big).err
    )
    assert danlu("predict", digits_run, big, "--resize").code == 0
    r = danlu("predict", digits_run, tmp_path / "none.png", tmp_path)
    assert "there is no such file" in r.err


def test_predict_rows(danlu: Any, tmp_path: Path) -> None:
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
    bad = danlu("predict", tmp_path / "run", "-", stdin=b"a,colour\nx,green\n").err
    assert "'green', but must be one of blue, red" in bad
    assert "'x', but must be a finite number" in bad


def test_predict_numbers(danlu: Any, tmp_path: Path) -> None:
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


def test_data(danlu: Any, tmp_path: Path) -> None:
    out = danlu("data", "wine", "--html", tmp_path / "wine.html").out
    for words in (
        "class_1",
        "alcohol",
        "No column is constant.",
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
            "Constant columns: same.",
            "Missing values: 1 in a, 1 in same.",
            "Target price: mean",
            "--missing drop",
        ):
            assert words in text
    assert "--missing drop" in danlu("fit", table, "--target", "price").err
    out = tmp_path / "run"
    told = danlu(
        "fit",
        table,
        "--target",
        "price",
        "--missing",
        "drop",
        "epochs=1",
        "batch_size=8",
        "--out",
        out,
    ).out
    assert "Rows with missing cells were left out (1 in a, 1 in same)." in told
    assert "row 41 of column 'a' in t.csv is missing; fill it" in danlu("predict", out, table).err
    refused = danlu("evaluate", out, "--missing", "drop", "--mode", "L").err
    assert "`mode` is 'L', but must be left out without another SOURCE" in refused
    assert "`missing`" in refused
    assert (
        json.loads(
            danlu(
                "fit",
                table,
                "--target",
                "price",
                "--missing",
                "drop",
                "epochs=1",
                "batch_size=8",
                "--json",
            ).out
        )["result"]["epochs"]
        == 1
    )
    said = json.loads(danlu("data", "digits", "--json").out)
    assert said["parts"] == {"train": 1079, "valid": 359, "test": 359}
    assert (
        "<img"
        in (
            danlu("data", "digits", "--html", tmp_path / "d.html"),
            (tmp_path / "d.html").read_text(),
        )[1]
    )


def test_summary(danlu: Any) -> None:
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
def test_summary_of_what_reads(danlu: Any, preset: str, kind: str, schema: Schema) -> None:
    out = danlu("summary", "-r", preset, "input=30", "--vocabulary", "50", "--classes", "7").out
    total = sum(p.numel() for p in build_model(Recipe.read(preset), schema).parameters())
    assert f"{total:,} parameters" in out and f"({kind})" in out


def test_recipe_commands(danlu: Any, tmp_path: Path, digits_run: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(danlu("recipe", "show", "digits", "epochs=7").out)
    assert danlu("recipe", "check", file).out == "no mistakes\n"
    assert "epochs" in danlu("recipe", "diff", "digits", file).out
    assert danlu("recipe", "diff", file, file).out == "no difference\n"
    assert json.loads(danlu("recipe", "diff", file, digits_run, "--json").out)
    assert "batch_size" in danlu("recipe", "check", file, "--source", "iris", "batch_size=1000").err
    assert "torch.randperm" in danlu("recipe", "show", "epochs=2", "--as-code").out
    assert "model.dropout" in danlu("recipe", "fields").out
    assert "digits" in danlu("recipe", "presets").out
    assert json.loads(danlu("recipe", "schema").out)["properties"]["epochs"]["description"]


def test_help_lists_the_fields_with_their_docstrings(danlu: Any) -> None:
    out = danlu("fit", "--help").out
    assert "optimizer.lr" in out
    assert "Learning rate α." in out


def test_resume_from_the_command_line(danlu: Any, digits_run: Path, tmp_path: Path) -> None:
    from danlu import Listener, Recipe, fit

    class Stop(Listener):
        def epoch(self, run: Run, row: dict[str, Any]) -> None:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fit(Recipe(epochs=3), load("digits"), out=tmp_path / "half", listener=Stop())
    r = danlu("resume", tmp_path / "half")
    assert r.code == 0
    assert "Test accuracy is" in r.out
    assert Run(tmp_path / "half").status == "finished"
    assert "is finished; there is nothing to resume" in danlu("resume", digits_run).err


def test_duplicates_are_told(danlu: Any, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b,label\n" + "\n".join(f"{i % 10},{i % 10},{i % 2}" for i in range(200)))
    out = tmp_path / "run"
    sentence = "equal one of the training part"
    assert sentence in danlu("fit", table, "epochs=1", "--out", out).out
    assert sentence in danlu("show", out).out
    assert sentence in (out / "report.html").read_text()
