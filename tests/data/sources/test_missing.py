"""Missing cells: refused, or left out without anything else going unnoticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from samples import make_pictures, refused

from danlu.data import load


def test_rows_with_missing_cells_are_left_out_when_asked(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(40.0), "b": ["x", "y"] * 20, "label": np.arange(40) % 2})
    frame.loc[[3, 7], "a"] = None
    frame.loc[[7, 11, 35], "b"] = None
    file = tmp_path / "t.csv"
    frame.to_csv(file, index=False)
    sentence = refused(str(file))
    assert (
        "row 4 of column 'a' in t.csv is missing or NaN; fill the 2 such cells, or use --missing drop"
        in sentence
    )
    assert "row 8 of column 'b'" in sentence
    data = load(str(file), missing="drop")
    assert len(data) == 36
    assert data.missing == {"a": 2, "b": 3}
    assert sorted(data.x[:, 0].tolist()) == [v for v in range(40) if v not in (3, 7, 11, 35)]
    assert (
        load(str(file), missing="drop").fingerprint
        == data.fingerprint
        == load(**data.source).fingerprint
    )
    folder = tmp_path / "parts"
    folder.mkdir()
    frame[:30].to_parquet(folder / "train.parquet")
    frame[30:].to_parquet(folder / "test.parquet")
    parts = load(str(folder), missing="drop")
    assert (parts.size("test"), len(parts)) == (9, 36)
    assert set(parts.x[parts.parts["test"], 0].tolist()) == {30, 31, 32, 33, 34, 36, 37, 38, 39}
    assert "every row of the data frame" in refused(
        pd.DataFrame({"a": [1, None], "label": [None, 1]}), missing="drop"
    )
    frame["b"] = None
    for missing in ("refuse", "drop"):
        assert "column 'b' of the data frame has no value in any row; remove it" in refused(
            frame, missing=missing
        )
        assert "no value in any row; fill in the target" in refused(
            frame, target="b", missing=missing
        )


def test_rows_keep_their_numbers_when_others_are_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"a": np.arange(40.0).astype(object), "b": np.arange(40.0), "label": np.arange(40) % 2}
    )
    frame.loc[2, "b"] = None
    frame.loc[20, "a"], frame.loc[30, "b"] = "oops", np.inf
    frame.index += 100
    for missing in ("refuse", "drop"):
        sentence = refused(frame, missing=missing)
        assert "row 21 of column 'a' in the data frame is 'oops'" in sentence
        assert "row 31 of column 'b' in the data frame is infinite" in sentence
    make_pictures(tmp_path / "p")
    content = [
        {"bytes": f.read_bytes(), "path": None} for f in sorted((tmp_path / "p").rglob("*.png"))
    ]
    content[2]["bytes"], content[7]["bytes"] = None, b"no picture"
    pd.DataFrame({"image": content, "label": [0, 1] * 6}).to_parquet(tmp_path / "all.parquet")
    assert "row 8 of all.parquet is no picture" in refused(
        str(tmp_path / "all.parquet"), missing="drop"
    )
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, rows in (("test", content[6:]), ("train", content[:6])):
        pd.DataFrame({"image": rows, "label": [0, 1] * 3}).to_parquet(parts / f"{name}.parquet")
    assert "row 8 of parts (its parts in a row, training first) is no picture" in refused(
        str(parts), missing="drop"
    )


def test_tables_without_rows_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0], "label": [1]})[:0]
    frame.to_parquet(tmp_path / "t.parquet")
    pd.DataFrame({"image": [{"bytes": b"", "path": None}], "label": [1]})[:0].to_parquet(
        tmp_path / "p.parquet"
    )
    for source in (frame, str(tmp_path / "t.parquet"), str(tmp_path / "p.parquet")):
        for missing in ("refuse", "drop"):
            assert refused(source, missing=missing).endswith("has no rows")


def test_the_task_follows_from_all_known_targets() -> None:
    frame = pd.DataFrame({"a": np.arange(63.0), "price": np.arange(63) % 21})
    frame.loc[frame.price == 20, "a"] = None
    assert load(frame, target="price", missing="drop").schema.task == "regression"
    mixed = pd.DataFrame({"a": np.arange(60.0), "label": [0, "1", "1.0"] * 20})
    mixed.loc[mixed.label == "1.0", "a"] = None
    assert load(mixed, missing="drop").schema.classes == ("0", "1")


def test_missing_cells_that_would_empty_a_part_or_class_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(60.0), "label": np.arange(60) % 3})
    frame[:40].to_parquet(tmp_path / "train.parquet")
    frame[40:].assign(label=None).to_parquet(tmp_path / "test.parquet")
    assert "no row of the test part of" in refused(str(tmp_path), missing="drop")
    frame.loc[frame.label == 2, "a"] = None
    assert "no row of the class '2' in the data frame is whole" in refused(frame, missing="drop")
    make_pictures(tmp_path / "p")
    content = [
        {"bytes": f.read_bytes(), "path": None} for f in sorted((tmp_path / "p").rglob("*.png"))
    ]
    content[2]["bytes"] = content[5]["bytes"] = None
    pd.DataFrame(
        {"image": content, "label": ["a", "b", "c", "a", "b", "c"] + ["a", "b"] * 3}
    ).to_parquet(tmp_path / "all.parquet")
    assert "no row of the class 'c' in all.parquet is whole" in refused(
        str(tmp_path / "all.parquet"), missing="drop"
    )
    one = pd.DataFrame({"a": [1, None], "label": [None, 1]})
    one.to_parquet(tmp_path / "one.parquet")
    assert "every row of one.parquet has a missing cell" in refused(
        str(tmp_path / "one.parquet"), missing="drop"
    )


def test_pictures_without_label_or_content_are_refused_or_dropped(tmp_path: Path) -> None:
    make_pictures(tmp_path / "p")
    content = [
        {"bytes": f.read_bytes(), "path": None} for f in sorted((tmp_path / "p").rglob("*.png"))
    ]
    content[2]["bytes"] = None
    labels = [0, 1] * 5 + [None, 1]
    pd.DataFrame({"image": content, "label": pd.array(labels, "Int64")}).to_parquet(
        tmp_path / "all.parquet"
    )
    sentence = refused(str(tmp_path / "all.parquet"))
    assert "column 'image' of all.parquet lacks 1 cell; fill it, or use --missing drop" in sentence
    assert "column 'label' of all.parquet lacks 1 cell" in sentence
    data = load(str(tmp_path / "all.parquet"), missing="drop", valid=False, split="50/50")
    assert data.y.tolist() == [0, 1, 1, 0, 1, 0, 1, 0, 1, 1]
    assert data.missing == {"image": 1, "label": 1}
