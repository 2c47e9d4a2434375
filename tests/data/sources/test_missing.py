"""Missing cells: refused, or left out without anything else going unnoticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from samples import make_pictures, quietly, refused

from danlu.data import load


def test_rows_with_missing_cells_are_left_out_when_asked(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(40.0), "b": ["x", "y"] * 20, "label": np.arange(40) % 2})
    frame.loc[[3, 7], "a"] = None
    frame.loc[[7, 11, 35], "b"] = None
    file = tmp_path / "t.csv"
    frame.to_csv(file, index=False)
    sentence = refused(str(file), missing="refuse")
    assert (
        "column 'a' of t.csv lacks 2 cells, the first in row 4; fill them, or use --missing fill"
        in sentence
    )
    assert "column 'b' of t.csv lacks 3 cells, the first in row 8" in sentence
    data = quietly(str(file), missing="drop")
    assert "36 of 40 rows kept, those without missing cells" in data.notices
    assert len(data) == 36
    assert data.missing == {"a": 2, "b": 3}
    assert sorted(data.x[:, 0].tolist()) == [v for v in range(40) if v not in (3, 7, 11, 35)]
    assert (
        quietly(str(file), missing="drop").fingerprint
        == data.fingerprint
        == quietly(**data.source).fingerprint
    )
    folder = tmp_path / "parts"
    folder.mkdir()
    frame[:30].to_parquet(folder / "train.parquet")
    frame[30:].to_parquet(folder / "test.parquet")
    parts = quietly(str(folder), missing="drop")
    assert (parts.size("test"), len(parts)) == (9, 36)
    assert set(parts.x[parts.parts["test"], 0].tolist()) == {30, 31, 32, 33, 34, 36, 37, 38, 39}
    holes = pd.DataFrame({"a": [1, None] * 9, "b": [None, 1] * 9, "label": [0, 1] * 9})
    assert "every row of the data frame has a missing cell" in refused(holes, missing="drop")
    frame["b"] = None
    assert "b (no value in any row)" in quietly(frame).notices[0]
    assert "no row of the data frame has a value in the target 'b'" in refused(frame, target="b")


def test_missing_cells_are_filled_with_the_training_median_and_an_indicator() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=200), "b": ["x", "y"] * 100, "label": [0, 1] * 100})
    frame.loc[::7, "a"] = None
    frame.loc[::9, "b"] = None
    data = quietly(frame)
    a, b = data.schema.columns
    assert a.features == ["a", "a is missing"] and b.features == ["b=x", "b=y", "b is missing"]
    train = data.parts["train"].numpy()
    known = frame["a"].to_numpy(float)
    assert a.fill == np.nanmedian(known[train]) != np.nanmedian(known)
    gaps = np.isnan(known)
    assert np.allclose(data.x[:, 0].numpy(), np.where(gaps, a.fill, known), atol=1e-6)
    assert np.array_equal(data.x[:, 1].numpy(), gaps)
    levels = np.stack([frame["b"] == "x", frame["b"] == "y", frame["b"].isna()], 1)
    assert np.array_equal(data.x[:, 2:].numpy(), levels)
    assert any("missing cells filled: 29 in a, 23 in b" in notice for notice in data.notices)


def test_rows_without_a_target_are_left_out_and_counted() -> None:
    frame = pd.DataFrame({"a": np.arange(40.0), "price": np.arange(40) * 1.5})
    frame.loc[[3, 5], "price"] = None
    data = quietly(frame, target="price")
    assert len(data) == 38 and 3.0 not in data.x[:, 0].tolist()
    assert "left out: 2 rows without a value in the target price" in data.notices
    assert "the target lacks 2 cells" in refused(frame, target="price", missing="refuse")


def test_pictures_keep_their_row_numbers_when_others_are_left_out(tmp_path: Path) -> None:
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
    assert quietly(frame, target="price", missing="drop").schema.task == "regression"
    mixed = pd.DataFrame({"a": np.arange(60.0), "label": [0, "1", "1.0"] * 20})
    assert quietly(mixed).schema.classes == ("0", "1", "1.0")
    mixed.loc[mixed.label == "1.0", "a"] = None
    assert "no row of the class '1.0'" in refused(mixed, missing="drop")


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
