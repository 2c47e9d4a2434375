"""docs/data.md: every kind of file it names is read as it says."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from samples import quietly

from danlu import Data

PAGE = Path(__file__).parents[3] / "docs/data.md"
N = 60
SIZES = [f"{k}.5" for k in range(N)]
KINDS = [("red", "blue")[k % 2] for k in range(N)]
WORDS = [f"sentence number {k} of many" for k in range(N)]
SENTENCE = "Rome\tB-LOC\nfell\tO\n.\tO\n\n"

Case = tuple[Callable[[Path], Path], Callable[[Data], bool]]


def table(separator: str = ",", head: str = "size,kind\n", end: str = "") -> str:
    rows = (separator.join(pair) for pair in zip(SIZES, KINDS, strict=True))
    return head.replace(",", separator) + "\n".join(rows) + end


def text_file(name: str, content: str, encoding: str = "utf-8") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content.encode(encoding))
        return folder / name

    return make


def bytes_file(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def frame() -> pd.DataFrame:
    return pd.DataFrame({"size": np.arange(N) + 0.5, "kind": KINDS})


def written(name: str, method: str, **options: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        getattr(frame(), method)(folder / name, **options)
        return folder / name

    return make


def npz(folder: Path) -> Path:
    np.savez(folder / "t.npz", x_train=np.eye(N)[:, :3], y_train=np.arange(N) % 2)
    return folder / "t.npz"


def pictures(folder: Path, n: int = 12, side: int = 6) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        Image.fromarray(np.full((side, side), k, np.uint8)).save(folder / f"{k}.png")


def texts(folder: Path, n: int = 12) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        (folder / f"{k}.txt").write_text(WORDS[k])


def classes(make: Callable[[Path], None], *above: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        for place in above or ("",):
            for name in ("cat", "dog"):
                make(folder / place / name)
        return folder

    return build


def archived(folder: Path) -> Path:
    for name in ("cat", "dog"):
        pictures(folder / "pets" / name)
    return Path(shutil.make_archive(str(folder / "packed"), "gztar", folder, "pets"))


def labelled_pictures(folder: Path) -> Path:
    pictures(folder / "images", N)
    rows = "\n".join(f"{k}.png,{kind}" for k, kind in enumerate(KINDS))
    (folder / "labels.csv").write_text("file,kind\n" + rows)
    return folder


def pictures_in_two_folders(folder: Path) -> Path:
    pictures(folder / "images_1", N // 2)
    pictures(folder / "images_2", N // 2)
    for k in range(N // 2):
        (folder / "images_2" / f"{k}.png").rename(folder / "images_2" / f"{k + N // 2}.png")
    rows = "\n".join(f"{k},{kind}" for k, kind in enumerate(KINDS))
    (folder / "labels.csv").write_text("name,kind\n" + rows)
    return folder


def files_by_part(folder: Path) -> Path:
    for part in ("train", "dev", "test"):
        rows = (f"{text}\t{kind}" for text, kind in zip(WORDS, KINDS, strict=True))
        (folder / f"{part}.tsv").write_text("\n".join(rows))
    return folder


def of_sizes(folder: Path) -> Path:
    pictures(folder / "cat", side=40)
    pictures(folder / "dog", side=50)
    return folder


def is_table(data: Data) -> bool:
    return data.schema.is_table and data.schema.classes == ("blue", "red") and len(data) == N


def is_task(task: str) -> Callable[[Data], bool]:
    return lambda data: data.schema.task == task


def is_text(data: Data) -> bool:
    return data.schema.is_text and data.schema.task == "classification"


def is_picture(data: Data) -> bool:
    return data.schema.is_image and data.schema.task == "classification"


def has_parts(data: Data) -> bool:
    return all(data.size(part) for part in ("train", "valid", "test"))


PAIRS = "\n".join(f"{text}\t{text[::-1]}" for text in WORDS)
CONLLU = (
    "1\tRome\tRome\tPROPN\tNNP\t_\t2\tnsubj\t_\t_\n2\tfell\tfall\tVERB\tVBD\t_\t0\troot\t_\t_\n\n"
)
MONEY = "price,kind\n" + "\n".join(f'"${1000 + k:,}.50",{kind}' for k, kind in enumerate(KINDS))
DATES = [f"2020-{1 + k % 12:02}-{1 + k % 28:02}" for k in range(N)]
TOKENS = "Sentence #,Word,Tag\n" + "".join(f"S{k},Rome,B-LOC\n,fell,O\n" for k in range(N))
SPANS = {"text": "王刚在北京", "label": {"name": {"王刚": [[0, 1]]}}}

CASES: dict[str, Case] = {
    "a table with names in its first line (`.csv`, `.tsv`, `.txt`, …)": (
        text_file("t.csv", table()),
        is_table,
    ),
    "a table without names": (text_file("t.data", table(head="")), is_table),
    "a table separated by semicolons, tabs, bars, blanks or `::`": (
        text_file("t.txt", table("::")),
        is_table,
    ),
    "a table with remarks above it": (text_file("t.csv", "# made in May\n" + table()), is_table),
    "a packed table (`.gz`, `.bz2`, `.xz`, `.zip` of one file)": (
        bytes_file("t.csv.gz", gzip.compress(table().encode())),
        is_table,
    ),
    "an archive of several files (`.zip`, `.tar`, `.tar.gz`, `.tgz`, …)": (
        archived,
        is_picture,
    ),
    "a table in UTF-16, GB 18030 or Latin-1": (text_file("t.csv", table(), "utf-16"), is_table),
    "numbers written `1,234`, `$2.39`, `45 %`, `45,06`": (
        text_file("t.csv", MONEY),
        lambda data: data.schema.columns[0].kind == "number" and float(data.x[3]) == 1003.5,
    ),
    "a table of two columns, a date and a number": (
        text_file("t.csv", "day,sales\n" + "\n".join(map(",".join, zip(DATES, SIZES, strict=True)))),
        is_task("regression"),
    ),
    "a table with a second line of units": (
        text_file("t.csv", "size,width,kind\ncm,kg,\n" + "\n".join(f"{s},{s},{k}" for s, k in zip(SIZES, KINDS, strict=True))),
        is_table,
    ),
    "JSON lines, a list of JSON objects, or columns and rows in one object": (
        written("t.jsonl", "to_json", orient="records", lines=True),
        is_table,
    ),
    "a Parquet, Arrow or Feather file": (written("t.feather", "to_feather"), is_table),
    "an Excel file (extra `excel`)": (written("t.xlsx", "to_excel", index=False), is_table),
    "ARFF, LIBSVM rows, fastText's `__label__` lines": (
        text_file("t.txt", "".join(f"__label__{k} {w}\n" for k, w in zip(KINDS, WORDS, strict=True))),
        is_text,
    ),
    "an NPZ file (also HDF5, extra `hdf5`, and MATLAB)": (npz, is_task("classification")),
    "a text and a label in each row, in either order": (
        text_file("t.txt", "\n".join(f"{k}\t{w}" for k, w in zip(KINDS, WORDS, strict=True))),
        is_text,
    ),
    "two texts in each row (`source` and `target`, or `--task pairs`)": (
        text_file("t.tsv", "source\ttarget\n" + PAIRS),
        is_task("pairs"),
    ),
    "two texts and Tatoeba's attribution": (
        text_file("t.txt", "\n".join(f"{row}\tCC-BY 2.0 #{k} by a person" for k, row in enumerate(PAIRS.split("\n")))),
        is_task("pairs"),
    ),
    "running text": (text_file("t.txt", "It was a dark and stormy night.\n" * N), is_task("language")),
    "a token and its tag on each line, an empty line between sentences": (
        text_file("t.txt", SENTENCE * N + "It\tO\n\n"),
        is_task("tagging"),
    ),
    "CoNLL-U": (text_file("t.conllu", CONLLU * N), lambda data: data.schema.classes == ("PROPN", "VERB")),
    "a table of tokens with a column of sentences": (text_file("t.csv", TOKENS), is_task("tagging")),
    "texts with entities marked by places (CLUENER, doccano)": (
        text_file("t.json", "\n".join([json.dumps(SPANS)] * N)),
        is_task("tagging"),
    ),
    "tags out of order, such as a stray `I-`": (
        text_file("t.bio", SENTENCE * N + "the\tO\nCity\tI-LOC\n"),
        lambda data: "1 tag out of order" in data.notices[0],
    ),
    "a folder with a subfolder of pictures for each class": (classes(pictures), is_picture),
    "a folder with a subfolder of texts for each class": (classes(texts), is_text),
    "a folder of parts (`train`, `val`, `test_set`, …) of classes": (
        classes(pictures, "train", "val", "test_set"),
        has_parts,
    ),
    "a folder that only holds another": (classes(pictures, "inner"), is_picture),
    "a folder of pictures with a table of labels": (labelled_pictures, is_picture),
    "several folders of pictures beside such a table": (pictures_in_two_folders, is_picture),
    "a folder of files named after parts (`train.tsv`, `dev.tsv`)": (files_by_part, has_parts),
    "pictures of several sizes or modes": (
        of_sizes,
        lambda data: data.schema.input_shape == (1, 32, 32),
    ),
}  # fmt: skip


def test_the_page_names_the_kinds_that_are_tested() -> None:
    section = PAGE.read_text().split("## Columns of a table")[0]
    titles = re.findall(r"^\| ([^|]+?) \| [^|]+ \|$", section, re.M)
    assert titles[0] == "what it looks like"
    assert titles[1:] == list(CASES)


@pytest.mark.parametrize("title", CASES)
def test_each_kind_is_read_as_the_page_says(title: str, tmp_path: Path) -> None:
    make, holds = CASES[title]
    if "extra `excel`" in title:
        pytest.importorskip("openpyxl", reason="the extra excel is not installed")
    source = make(tmp_path)
    options = {}
    if holds is is_table or "numbers written" in title:
        options["target"] = "c2" if "without names" in title else "kind"
    assert holds(quietly(source, **options)), title
