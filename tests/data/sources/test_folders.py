"""Folders told by what is in them: parts, classes, wrappers, texts, tables of labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from samples import quietly, refused

from danlu import Data
from danlu.data.vocabulary import Vocabulary


def pictures(folder: Path, n: int, value: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        Image.fromarray(np.full((6, 6), value + k, np.uint8)).save(folder / f"{k}.png")


def texts(folder: Path, n: int, word: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        (folder / f"{k}.txt").write_text(f"this is {word} number {k}")


def sizes(data: Data) -> list[int]:
    return [data.size(part) for part in ("train", "valid", "test")]


@pytest.mark.parametrize("name", ["training_set", "Train", "train-images", "TRAINING"])
def test_parts_have_many_names(name: str, tmp_path: Path) -> None:
    for kind in ("rose", "tulip"):
        pictures(tmp_path / name / kind, 12)
        pictures(tmp_path / "test_set" / kind, 5)
    data = quietly(tmp_path)
    assert data.schema.classes == ("rose", "tulip") and data.size("test") == 10


def test_classes_with_the_same_subfolders_are_parts_or_refused(tmp_path: Path) -> None:
    for kind in ("rose", "tulip"):
        pictures(tmp_path / "a" / kind / "train", 12)
        pictures(tmp_path / "a" / kind / "test", 5)
    data = quietly(tmp_path / "a")
    assert data.schema.classes == ("rose", "tulip") and data.size("test") == 10
    assert "has its own folders test, train, which are read as parts" in data.notices[0]
    for side in ("left", "right"):
        for kind in ("rose", "tulip"):
            pictures(tmp_path / "b" / side / kind, 5)
    assert "left, right of b all hold rose, tulip, so they are parts rather" in refused(
        tmp_path / "b"
    )


def test_a_wrapper_is_opened_and_strays_do_not_win(tmp_path: Path) -> None:
    for kind in ("rose", "tulip"):
        pictures(tmp_path / "flowers" / kind, 20)
    (tmp_path / "LICENSE.txt").write_text("You may copy this. " * 50)
    (tmp_path / "flowers" / "notes.txt").write_text("nothing " * 50)
    pictures(tmp_path / "__MACOSX" / "x", 1)
    data = quietly(tmp_path)
    assert data.schema.classes == ("rose", "tulip") and len(data) == 40


def test_a_folder_of_texts_by_class(tmp_path: Path) -> None:
    for part, n in (("train", 30), ("test", 8)):
        texts(tmp_path / part / "pos", n, "good")
        texts(tmp_path / part / "neg", n, "bad")
        (tmp_path / part / "urls.txt").write_text("http://…")
    texts(tmp_path / "train" / "unsup", 5, "whatever")
    (tmp_path / "train" / "pos" / "empty.txt").write_text(" ")
    data = quietly(tmp_path)
    assert data.schema.classes == ("neg", "pos") and data.size("test") == 16
    told = " ".join(data.notices)
    assert "left out: unsup in train, which has no class" in told
    assert "left out: 1 empty file, train/pos/empty.txt" in told
    first = Vocabulary(data.schema.vocabulary).decode(data.part("test")[0][0].tolist())
    assert first == "this is bad number 0"


def test_files_of_rows_named_after_parts_are_one_table(tmp_path: Path) -> None:
    rows = [f"sentence number {k} of many\t{'pos' if k % 2 else 'neg'}" for k in range(90)]
    for name, part in (("train", rows[:60]), ("dev", rows[60:70]), ("test", rows[70:])):
        (tmp_path / f"{name}.tsv").write_text("\n".join(part) + "\n")
    (tmp_path / "labels.txt").write_text("pos\nneg\n")
    data = quietly(tmp_path)
    assert data.schema.classes == ("neg", "pos") and sizes(data) == [60, 10, 20]
    assert "left out: labels.txt" in " ".join(data.notices)
    (tmp_path / "test.tsv").write_text(
        "id\ttext\n" + "\n".join(f"{k}\tone {k} two" for k in range(9))
    )
    unlabelled = quietly(tmp_path)
    assert unlabelled.size("valid") == 10 and len(unlabelled) == 70
    assert "left out: test.tsv, whose columns are id, text" in " ".join(unlabelled.notices)


def test_entities_marked_by_places_become_tags(tmp_path: Path) -> None:
    cluener = {
        "text": "王刚在 北京",
        "label": {"name": {"王刚": [[0, 1]]}, "city": {"北京": [[4, 5]]}},
    }
    doccano = {"text": "王刚在 北京", "label": [[0, 2, "name"], [4, 6, "city"]]}
    found = []
    for name, row in (("c.json", cluener), ("d.jsonl", doccano)):
        (tmp_path / name).write_text("\n".join([json.dumps(row, ensure_ascii=False)] * 30), "utf-8")
        data = quietly(tmp_path / name)
        found.append([data.schema.classes[k] for k in data.y[0].tolist()])
    want = ["B-name", "I-name", "O", "B-city", "I-city"]
    assert found == [want, want]


def test_a_table_of_tokens_is_tagged_text(tmp_path: Path) -> None:
    rows = ["Sentence #,Word,POS,Tag"]
    for k in range(40):
        rows += [f"Sentence: {k + 1},Rome,NNP,B-geo", ",fell,VBD,O", ",.,.,O"]
    (tmp_path / "ner.csv").write_text("\n".join(rows))
    data = quietly(tmp_path / "ner.csv")
    assert data.schema.task == "tagging" and data.schema.classes == ("O", "B-geo")
    assert len(data) == 40 and data.x.shape[1] == 3


def test_a_table_of_labels_names_the_pictures(tmp_path: Path) -> None:
    pictures(tmp_path / "images", 40)
    rows = pd.DataFrame({"file": [f"{k}.png" for k in range(40)], "kind": ["a", "b"] * 20})
    rows.to_csv(tmp_path / "labels.csv", index=False)
    data = quietly(tmp_path)
    assert data.schema.classes == ("a", "b") and data.schema.input_shape == (1, 6, 6)
    assert [int(x.max()) for x in data.x] == list(range(40))
    assert data.y.tolist() == [0, 1] * 20
    rows.assign(file=rows["file"].str.removesuffix(".png")).to_csv(
        tmp_path / "labels.csv", index=False
    )
    assert quietly(tmp_path).fingerprint == data.fingerprint
    ages = rows.drop(columns="kind").assign(age=np.arange(40) * 1.5)
    ages.to_csv(tmp_path / "labels.csv", index=False)
    assert quietly(tmp_path).schema.task == "regression"
    more = pd.concat([rows, rows[:5].assign(file=[f"gone{k}.png" for k in range(5)])])
    more.to_csv(tmp_path / "labels.csv", index=False)
    said = refused(tmp_path)
    assert "labels.csv names 5 pictures that are not in the folder: gone0.png, gone1.png" in said
    several = rows.drop(columns="kind").assign(
        cat=[0, 1] * 20, dog=[1, 1, 0, 0] * 10, hat=[1, 0] * 20
    )
    several.to_csv(tmp_path / "labels.csv", index=False)
    assert "gives each picture 3 labels of 0 or 1, and several labels at once" in refused(tmp_path)
    assert quietly(tmp_path, target="cat").schema.classes == ("0", "1")


@pytest.mark.parametrize(
    ("rows", "text", "target"),
    [
        ([f"{'ham' if k % 2 else 'spam'}\tmessage number {k} is here" for k in range(60)], "c2", "c1"),
        ([f"message number {k} is here\t{k % 2}" for k in range(60)], "c1", "c2"),
        ([f"message number {k} is here::{k % 2}" for k in range(60)], "c1", "c2"),
    ],
)  # fmt: skip
def test_a_text_and_its_label_are_told_apart(
    rows: list[str], text: str, target: str, tmp_path: Path
) -> None:
    (tmp_path / "t.txt").write_text("\n".join(rows))
    data = quietly(tmp_path / "t.txt")
    assert data.schema.is_text and (data.schema.text_column, data.schema.target) == (text, target)
    assert len(data) == 60 and len(data.schema.classes) == 2


def test_pairs_with_further_columns_are_pairs(tmp_path: Path) -> None:
    rows = [f"I see {k} cats.\tIch sehe {k} Katzen.\tCC-BY 2.0 (France) #{k}" for k in range(60)]
    (tmp_path / "deu.txt").write_text("\n".join(rows))
    data = quietly(tmp_path / "deu.txt")
    assert data.schema.task == "pairs"
    learnt = Vocabulary(data.schema.vocabulary)
    assert learnt.decode(data.x[7, : data.schema.source].tolist()) == "I see 7 cats."
    assert "left out: c3" in " ".join(data.notices)


def test_two_columns_of_which_one_varies_are_no_text(tmp_path: Path) -> None:
    days = pd.date_range("2020-01-01", periods=60).strftime("%Y-%m-%d")
    rows = [f"{day},{20 + k % 7}.5" for k, day in enumerate(days)]
    (tmp_path / "t.csv").write_text("Date,Temp\n" + "\n".join(rows))
    for target in ("Temp", None):
        data = quietly(tmp_path / "t.csv", target=target)
        assert data.schema.task == "regression" and data.schema.target == "Temp"
        assert [column.kind for column in data.schema.columns] == ["date"]
    codes = [f"AB{k * 7919 % 9973:05},{k % 2}" for k in range(60)]
    (tmp_path / "u.csv").write_text("code,label\n" + "\n".join(codes))
    assert "no column to learn from" in refused(tmp_path / "u.csv")


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".json", ".jsonl", ".parquet", ".npz", ".xlsx"])
def test_a_file_of_nothing_or_rubbish_is_refused_in_words(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{suffix}"
    for content in (b"", b"\0\1\2\3" * 50, b"{", b"PK\3\4rubbish", b"\x1f\x8brubbish"):
        path.write_bytes(content)
        assert f"t{suffix}" in refused(path) or "t" in refused(path)


def test_two_folders_of_one_part_are_read_together(tmp_path: Path) -> None:
    for part in ("train", "val", "dev"):
        for kind in ("rose", "tulip"):
            pictures(tmp_path / part / kind, 5)
    assert sizes(quietly(tmp_path))[1] == 20 and len(quietly(tmp_path)) == 30


def test_names_of_pairs_over_numbers_are_a_table(tmp_path: Path) -> None:
    rows = [f"{k},{k * 2.5}" for k in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["input,output", *rows]))
    assert quietly(tmp_path / "t.csv", target="output").schema.task == "regression"
    assert "no target is named" in refused(tmp_path / "t.csv")


def test_lines_that_all_begin_like_remarks_are_rows(tmp_path: Path) -> None:
    rows = [f"#{k},{k % 7}.5,{'ab'[k % 2]}" for k in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    assert len(quietly(tmp_path / "t.csv", target="last")) == 40


def test_arrays_of_a_test_part_alone_are_all_there_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "t.npz", x_test=rng.normal(size=(40, 3)), y_test=np.arange(40) % 2)
    assert sizes(quietly(tmp_path / "t.npz")) == [24, 8, 8]
