"""Names of parts and of label columns: one list each, whatever the data lie in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from samples import refused

from danlu import load
from danlu.data.parts import SPELLINGS, part_of
from danlu.data.vocabulary import Vocabulary


def save_pictures(folder: Path, n: int, value: int) -> None:
    folder.mkdir(parents=True)
    for k in range(n):
        Image.fromarray(np.full((6, 6), value + k, np.uint8)).save(folder / f"{k}.png")


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [("train", "validation", "test"), ("training", "val", "testing"), ("Train", "Dev", "TEST")],
)
def test_folders_of_parts_are_parts_and_no_classes(
    tmp_path: Path, train: str, valid: str, test: str
) -> None:
    for part, n in ((train, 12), (valid, 5), (test, 7)):
        for value, flower in ((10, "rose"), (200, "tulip")):
            save_pictures(tmp_path / part / flower, n, value)
    data = load(str(tmp_path))
    assert data.schema.classes == ("rose", "tulip")
    assert [data.size(p) for p in ("train", "valid", "test")] == [24, 10, 14]
    x, y = data.part("test")
    assert ((x.flatten(1).float().mean(1) > 100) == (y == 1)).all()


@pytest.mark.parametrize("name", SPELLINGS)
def test_parts_are_known_by_every_spelling_in_any_case(name: str) -> None:
    assert part_of(name.upper()) == part_of(name) == SPELLINGS[name]


PAIRS = [
    ("text", "sentiment"),
    ("sentence", "label"),
    ("review", "class"),
]


@pytest.mark.parametrize(("text", "label"), PAIRS)
def test_the_columns_of_labelled_texts_are_found_alike_in_every_format(
    tmp_path: Path, text: str, label: str
) -> None:
    texts = [f"{'good' if k % 2 else 'bad'} film number {k}" for k in range(60)]
    labels = ["pos" if k % 2 else "neg" for k in range(60)]
    frame = pd.DataFrame({text: texts, label: labels})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "t.parquet")
    lines = [json.dumps(row) for row in frame.to_dict("records")]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    read = []
    for name in ("t.csv", "t.parquet", "t.jsonl"):
        data = load(str(tmp_path / name))
        assert data.schema.is_text and data.schema.classes == ("neg", "pos"), name
        words = Vocabulary(data.schema.vocabulary)
        rows = zip(data.x.tolist(), data.y.tolist(), strict=True)
        read.append(sorted((words.decode(x), y) for x, y in rows))
    assert read[0] == read[1] == read[2]
    assert len(read[0]) == 60


def test_a_table_without_a_known_label_column_asks_for_one(tmp_path: Path) -> None:
    pd.DataFrame({"a": range(40), "b": range(40)}).to_parquet(tmp_path / "t.parquet")
    assert "--target" in refused(str(tmp_path / "t.parquet")) or "target" in refused(
        str(tmp_path / "t.parquet")
    )
