"""Files and folders as others leave them: each was read wrongly once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from samples import quietly

from danlu import Data, load
from danlu.errors import DataError, DataNotice


def picture(path: Path, grey: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(path)


def rows(n: int = 40) -> str:
    return "".join(f"{i},{i * 0.5},{'a' if i % 2 else 'b'}\n" for i in range(n))


def test_parts_may_be_words_of_folders_names_and_repeat(tmp_path: Path) -> None:
    """Intel's seg_train/seg_train, and the training_set/training_set of cats and dogs."""
    for part, again in (("seg_train", "seg_train"), ("seg_test", "seg_test")):
        for name in ("forest", "sea"):
            for i in range(6):
                picture(tmp_path / "intel" / part / again / name / f"{i}.png", i)
    data = quietly(tmp_path / "intel")
    assert data.schema.classes == ("forest", "sea")
    assert data.size("test") == 12
    for part in ("training_set", "test_set"):
        for name in ("cats", "dogs"):
            for i in range(6):
                picture(tmp_path / "pets" / part / part / name / f"{i}.png", i)
    assert quietly(tmp_path / "pets").schema.classes == ("cats", "dogs")


def test_a_table_of_labels_beside_several_folders_of_pictures_wins(tmp_path: Path) -> None:
    """HAM10000: pictures in two folders that are no classes; names without ending, in other case."""
    for i in range(20):
        picture(tmp_path / f"images_part_{1 + i % 2}" / f"ISIC_{i}.jpg", i)
    table = "image_id,dx\n" + "".join(f"isic_{i},{'nv' if i % 3 else 'mel'}\n" for i in range(20))
    (tmp_path / "metadata.csv").write_text(table)
    data = quietly(tmp_path)
    assert data.schema.classes == ("mel", "nv")
    assert any("are not read as classes" in notice for notice in data.notices)
    paths = table.replace("isic_", ".\\images\\isic_").replace(",nv", ".jpg,nv")
    (tmp_path / "metadata.csv").write_text(paths)
    assert quietly(tmp_path, target="last").schema.classes == ("mel", "nv")


def test_class_folders_win_where_the_table_says_the_same(tmp_path: Path) -> None:
    for i in range(12):
        picture(tmp_path / ("cat" if i % 2 else "dog") / f"{i}.png", i)
    listed = "".join(f"{i}.png,{'Cat' if i % 2 else 'Dog'}\n" for i in range(12))
    (tmp_path / "labels.csv").write_text("file,label\n" + listed)
    assert quietly(tmp_path).schema.classes == ("cat", "dog")


def test_masks_are_no_class(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        for i in range(4):
            picture(tmp_path / kind / f"{i}.png", i)
    with pytest.raises(DataError, match="pictures and their masks, not classes"):
        load(tmp_path)


def sheet(
    path: Path, cells: list[list[object]], title: str = "Sheet1", **more: list[list[object]]
) -> None:
    with pd.ExcelWriter(path) as writer:
        for name, of in {title: cells, **more}.items():
            pd.DataFrame(of).to_excel(writer, sheet_name=name, header=False, index=False)


def test_spreadsheets_keep_codes_and_marks_and_have_titles_above(tmp_path: Path) -> None:
    body = [[f"{i % 10:03}", 1.5 * i, "NA" if i % 5 == 0 else "EU", i % 2] for i in range(40)]
    path = tmp_path / "t.xlsx"
    sheet(path, [["Sales of 2024", None, None, None], ["zip", "size", "region", "y"], *body])
    data = quietly(path, target="y")
    by_name = {column.name: column for column in data.columns}
    assert by_name["zip"].role == "category"  # 007 is no 7
    assert by_name["zip"].example.startswith("0")
    assert any("left out as remarks" in notice for notice in data.notices)
    assert quietly(path, target="region").schema.classes == ("EU", "NA")
    sheet(
        path,
        [["read me", "x"], ["a", "b"]],
        Data=[["a", "b", "y"], *([i, i / 2, i % 2] for i in range(30))],
    )
    two = quietly(path, target="y")
    assert two.size("train") + two.size("valid") + two.size("test") == 30
    plain = tmp_path / "plain.xlsx"
    sheet(plain, [[i, i / 3, i % 2] for i in range(30)])
    assert len(quietly(plain, target="last")) == 30  # without names no row is lost
    text = tmp_path / "old.xls"
    text.write_text("a,b,y\n" + rows())
    assert len(quietly(text, target="y")) == 40


def test_text_with_a_score_is_not_learnt_as_a_class_for_each(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = (
        f'"a long enough review of number {i}, which nobody reads twice",{i / 7:.3f}\n'
        for i in range(60)
    )
    path.write_text("review,score\n" + "".join(lines))
    for options in ({}, {"task": "regression"}, {"target": "score"}):
        with pytest.raises(DataError, match="texts are learnt with classes"):
            quietly(path, **options)
    path.write_text(
        "review,stars\n"
        + "".join(
            f'"a long enough review of number {i}, which is unlike others",{i % 5 + 1}\n'
            for i in range(60)
        )
    )
    assert quietly(path).schema.classes == ("1", "2", "3", "4", "5")


ARFF = (
    "@relation r\n@attribute a numeric\n@attribute 'b c' {x,'y z'}\n@attribute class {p,n}\n@data\n"
)
LINES: dict[str, tuple[str, str, Callable[[Data], bool]]] = {
    "arff": (
        "t.arff",
        ARFF + "".join(f"{i},'y z',{'p' if i % 2 else 'n'}\n" for i in range(40)) + "?,x,p\n",
        lambda d: d.schema.target == "class" and len(d) == 41,
    ),
    "libsvm": (
        "t.libsvm",
        "".join(f"{1 if i % 2 else -1} 1:{i / 9:.3f} 7:1\n" for i in range(40)),
        lambda d: d.schema.classes == ("-1", "1"),
    ),
    "fasttext": (
        "t.txt",
        "".join(f"__label__{'good' if i % 2 else 'bad'} words of {i}\n" for i in range(40)),
        lambda d: d.schema.classes == ("bad", "good") and d.schema.is_text,
    ),
    "sep=": ("t.csv", "sep=;\na;b;y\n" + rows().replace(",", ";"), lambda d: len(d) == 40),
    "decimal comma": (
        "t.csv",
        "Preis;Stadt;Klasse\n" + "".join(f"1,{i};Bonn{i % 3};{'a' if i % 2 else 'b'}\n" for i in range(40)),
        lambda d: [c.role for c in d.columns] == ["number", "category"],
    ),
    "units": (
        "t.csv",
        "height,weight,y\ncm,kg,\n" + "".join(f"{i},{2 * i + 1},{'a' if i % 2 else 'b'}\n" for i in range(40)),
        lambda d: len(d) == 40 and all(c.role == "number" for c in d.columns),
    ),
    "null words": (
        "t.csv",
        "a,b,y\n" + "".join(f"{i},{['(null)', chr(92) + 'N', i][i % 3]},{i % 2}\n" for i in range(40)),
        lambda d: d.columns[1].role == "number" and d.columns[1].missing == 27,
    ),
    "stray dates": (
        "t.csv",
        "day,n,y\n" + "".join(f"{'soon' if i == 9 else f'2024-01-{1 + i % 28:02}'},{i / 7:.2f},{i % 2}\n" for i in range(40)),
        lambda d: d.columns[0].role == "date" and d.columns[0].missing == 1,
    ),
    "typed signs": (
        "t.csv",
        "a;b;y\n" + "".join(f"1\u00a0{i:03};\u2212{i};{i % 2}\n" for i in range(40)),
        lambda d: [c.role for c in d.columns] == ["number", "number"],
    ),
    "NA among numbers": (
        "t.csv",
        "a,y\n" + "".join(f"{i / 7:.2f},{'NA' if i % 9 == 0 else i % 2}\n" for i in range(60)),
        lambda d: d.schema.classes == ("0", "1"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(LINES))
def test_lines_are_read_as_their_writers_meant_them(kind: str, tmp_path: Path) -> None:
    name, text, holds = LINES[kind]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    target = {"target": "y"} if "y\n" in text[:40] else {}
    if kind == "decimal comma":
        target = {"target": "Klasse"}
    data = quietly(path, **target)
    assert holds(data), (data.schema, data.columns, data.notices)


RECORDS = [{"a": i, "b": i / 2, "y": "u" if i % 2 else "v"} for i in range(30)]


@pytest.mark.parametrize(
    "written",
    [
        json.dumps(RECORDS, indent=1),
        json.dumps({"data": RECORDS}),
        pd.DataFrame(RECORDS).to_json(),
        pd.DataFrame(RECORDS).to_json(orient="split"),
        json.dumps({name: [row[name] for row in RECORDS] for name in "aby"}, indent=2),
        "\n".join(map(json.dumps, RECORDS)),
    ],
    ids=["list", "under a name", "columns", "split", "lists", "lines"],
)
def test_json_is_a_table_in_any_of_its_forms(written: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(written)
    data = quietly(path, target="y")
    assert len(data) == 30
    assert [column.name for column in data.columns] == ["a", "b"]


def test_running_text_is_said_to_be_read_so(tmp_path: Path) -> None:
    path = tmp_path / "people.txt"
    path.write_text("name,city,job\n" + "".join(f"Ann{i},Bonn{i},cook{i}\n" for i in range(50)) * 5)
    with pytest.warns(DataNotice, match="is read as running text"):
        data = load(path)
    assert data.schema.task == "language"
    assert not any("running text" in notice for notice in quietly(path, task="language").notices)


def test_parts_in_another_order_of_columns_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,b,y\n" + rows())
    swapped = "".join(f"{'a' if i % 2 else 'b'},{i * 0.5},{i}\n" for i in range(10))
    (tmp_path / "test.csv").write_text("y,b,a\n" + swapped)
    data = quietly(tmp_path, target="y")
    assert data.size("test") == 10
    assert data.schema.classes == ("a", "b")


def test_arrays_named_together_with_their_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), np.arange(30) % 2
    np.savez(tmp_path / "t.npz", Xtrain=x, ytrain=y, Xtest=x, ytest=y)
    assert quietly(tmp_path / "t.npz").size("test") == 30


def test_a_run_reads_rows_without_names_and_classes_in_other_case(tmp_path: Path) -> None:
    from danlu import Recipe, fit

    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n" + "".join(f"{i},{i / 2},{i % 2 == 0}\n" for i in range(60)))
    run = fit(Recipe(epochs=1, batch_size=16), quietly(path, target="y"), out=tmp_path / "run")
    other = tmp_path / "other.csv"
    other.write_text(
        "a,b,y\n" + "".join(f"{i},{i / 2},{str(i % 2 == 0).upper()}\n" for i in range(10))
    )
    found = quietly(other, like=run.schema)
    assert int((found.y < 0).sum()) == 0
    headless = tmp_path / "none.csv"
    headless.write_text("".join(f"{i},{i / 2},{'p' if i % 2 else 'q'}\n" for i in range(60)))
    without = fit(
        Recipe(epochs=1, batch_size=16), quietly(headless, target="last"), out=tmp_path / "headless"
    )
    one = tmp_path / "one.csv"
    one.write_text("3,1.5,p\n")
    assert run is not None and len(quietly(one, like=without.schema)) == 1


def test_features_and_targets_may_be_files_side_by_side(tmp_path: Path) -> None:
    for part, n in (("train", 40), ("test", 10)):
        (tmp_path / f"X_{part}.csv").write_text(
            "a,b\n" + "".join(f"{i},{i / 2}\n" for i in range(n))
        )
        (tmp_path / f"y_{part}.csv").write_text("label\n" + "".join(f"{i % 2}\n" for i in range(n)))
    data = quietly(tmp_path)
    assert (data.size("test"), data.schema.target) == (10, "y")
    assert [column.name for column in data.columns] == ["a", "b"]


def test_a_packed_table_may_have_a_readme_beside_it(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("data/t.csv", "a,b,y\n" + rows())
        archive.writestr("README.txt", "about")
        archive.writestr("LICENSE", "free")
    assert len(quietly(tmp_path / "t.zip", target="y")) == 40


def test_wide_tables_of_plain_numbers_keep_their_codes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = (
        f"{i / 3:.3f},{i % 10:03},1_0{i % 3},{1e5 * i:.2e},{'a' if i % 2 else 'b'}\n"
        for i in range(60)
    )
    path.write_text("number,code,under,power,y\n" + "".join(lines))
    roles = {column.name: column.role for column in quietly(path, target="y").columns}
    assert roles == {"number": "number", "code": "category", "under": "category", "power": "number"}
