"""Commands that train: what they print, and every mistake as a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from danlu import Run, load


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
        (
            ["fit", "digits", "model=cnn", "model.channels=4,4,4,4"],
            "`pool4` needs an input of at least",
        ),
        (["fit", "digits", "-r", "nope"], "`recipe` is 'nope'"),
        (["resume", "nowhere"], "is not a run folder"),
        (["evaluate", "last"], "there is no run under"),
        (["summary", "input=3x"], "`input` is '3x', but must be a shape"),
        # Digits to Unicode, but no numbers to Python.
        (["summary", "input=²"], "`input` is '²', but must be a shape"),
        (["compare", "iris", "lr=1,2", "--ray", "host:²"], "`ray` is 'host:²', but must be auto"),
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


def test_a_study_member_is_named_by_ascii_digits(danlu: Any, runs_folder: Path) -> None:
    danlu(
        "compare",
        "iris",
        "lr=0.1,0.01",
        "epochs=1",
        "--seeds",
        "2",
        "--out",
        str(runs_folder / "s"),
    )
    r = danlu("show", "s:²")
    assert r.code == 2
    assert "s:²" in r.err
    assert "Traceback" not in r.err


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


def test_slow_arithmetic_is_reported(danlu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for has, told in ((True, False), (False, True)):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda has=has: has)
        for command in (("fit", "iris"), ("compare", "iris", "lr=0.1,0.2", "--seeds", "2")):
            out = danlu(*command, "epochs=1", "dtype=bf16-mixed").out
            assert (
                "has no instructions for bfloat16: float32 is many times as fast here"
                in " ".join(out.split())
            ) == told
    assert "bfloat16" not in danlu("fit", "iris", "epochs=1").out


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


def test_duplicates_are_reported(danlu: Any, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("a,b,label\n" + "\n".join(f"{i % 10},{i % 10},{i % 2}" for i in range(200)))
    out = tmp_path / "run"
    sentence = "equal one of the training part"
    assert sentence in danlu("fit", table, "epochs=1", "--out", out).out
    assert sentence in danlu("show", out).out
    assert sentence in (out / "report.html").read_text()


def table_of(folder: Path) -> Path:
    rows = [f"{k},{k % 9}.5,t{k % 30},{'even' if k % 2 == 0 else 'odd'}" for k in range(300)]
    (folder / "t.csv").write_text("id,size,town,kind\n" + "\n".join([*rows, "300,,t1,odd"]))
    return folder / "t.csv"


def test_what_is_trained_by_default_depends_on_the_data(danlu: Any, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for k in range(8):
            pixels = np.full((16, 16, 3), 20 * k, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{k}.png")
    for source, options, want in (
        (table_of(tmp_path), ("--target", "kind"), "table"),
        (tmp_path / "pictures", (), "resnet18"),
    ):
        done = danlu("fit", source, *options, "epochs=1", "--json")
        assert done.code == 0, done.err
        assert Run(Path(json.loads(done.out)["run"])).recipe.model.name == want


def test_a_table_goes_from_its_file_to_answers_on_new_rows(danlu: Any, tmp_path: Path) -> None:
    path = table_of(tmp_path)
    done = danlu("fit", path, "--target", "kind", "--out", tmp_path / "run")
    assert "note: left out: id (names rows); --keep takes it in" in done.err
    assert "note: missing cells filled: 1 in size" in done.err
    new = tmp_path / "new.csv"
    new.write_text("town,other,id,size\nt2,x,901,3.5\nt99,x,902,\n")
    out = tmp_path / "answers.csv"
    done = danlu("predict", tmp_path / "run", new, "--out", out)
    assert done.code == 0 and f"2 predictions: {out}" in done.out
    head, first, second = out.read_text().splitlines()
    assert head == "input,id,class,probability"
    assert first.startswith("new.csv:1,901,") and second.startswith("new.csv:2,902,")
    whole = json.loads(danlu("evaluate", tmp_path / "run", path, "--json").out)
    assert whole["examples"] == 301


def test_data_describes_what_cannot_be_learnt_from_and_refuses_nothing(
    danlu: Any, tmp_path: Path
) -> None:
    path = table_of(tmp_path)
    done = danlu("data", path)
    assert done.code == 0 and "no target is named; try --target kind" in done.out
    assert "identifier, left out" in done.out and "301 rows" in done.out
    told = json.loads(danlu("data", path, "--target", "kinds", "--json").out)
    assert "did you mean 'kind'?" in told["problems"][0] and told["examples"] == 301
    for content in (b"", b"\0\1\2", b"a,b\n1\n1,2,3\n"):
        (tmp_path / "bad.csv").write_bytes(content)
        done = danlu("data", tmp_path / "bad.csv")
        assert done.code == 0 and "cannot be learnt from as it is:" in done.out
    assert danlu("data", tmp_path / "none.csv").code == 2
    found = json.loads(danlu("data", path, "--target", "kind", "--json").out)
    roles = {role["name"]: role["role"] for role in found["roles"]}
    assert roles == {"id": "identifier", "size": "number", "town": "category"}
    assert found["rank"]["rank"] == 2 and found["missing values"] == {"size": 1}


def test_small_conv_nets_fit_small_pictures(danlu: Any) -> None:
    done = danlu("fit", "digits", "model=cnn", "epochs=1", "--limit", "100", "--json")
    assert done.code == 0, done.err
