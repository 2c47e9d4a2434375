from __future__ import annotations

import gzip
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from danlu.data import load
from danlu.errors import DanluError, DataError


def write_idx(path: Path, array: np.ndarray, zipped: bool = True) -> None:
    content = struct.pack(f">{array.ndim + 1}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "idx"
    folder.mkdir()
    for stem, n in (("train", 60), ("t10k", 20)):
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 6, 5)))
        write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", np.arange(n) % 3)
    return folder


def make_pictures(root: Path, per_class: int = 6, size: tuple[int, int] = (8, 10), mode: str = "RGB") -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            shape = (*size, 3) if mode == "RGB" else size
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


def test_embedded_sets_equal_scikit_learns() -> None:
    from sklearn import datasets

    loaders = {"digits": "digits", "iris": "iris", "wine": "wine", "breast-cancer": "breast_cancer"}
    for name, function in loaders.items():
        theirs = getattr(datasets, f"load_{function}")()
        ours = load(name)
        unit = 16 / 255 if name == "digits" else 1
        np.testing.assert_allclose(ours.x.flatten(1).numpy() * unit, theirs.data, rtol=1e-6, atol=0.04 if name == "digits" else 0)
        assert np.array_equal(ours.y.numpy(), theirs.target)
        assert list(ours.schema.classes) == [str(c) for c in theirs.target_names]
    theirs, ours = datasets.load_diabetes(scaled=False), load("diabetes")
    np.testing.assert_allclose(ours.x.numpy(), theirs.data, rtol=1e-6)
    np.testing.assert_allclose(ours.y.numpy(), theirs.target)
    assert ours.schema.task == "regression"


def test_idx_folder_resized_and_plain(idx_folder: Path) -> None:
    data = load(str(idx_folder))
    assert tuple(data.x.shape) == (80, 1, 6, 5)
    assert data.x.dtype == torch.uint8
    assert data.parts["test"].tolist() == list(range(60, 80))
    big = load(str(idx_folder), resize=12)
    assert big.schema.input_shape == (1, 12, 12)
    want = np.asarray(Image.fromarray(data.x[3, 0].numpy()).resize((12, 12), Image.Resampling.BILINEAR))
    assert np.array_equal(big.x[3, 0].numpy(), want)


def test_larger_than_the_budget_is_mapped_and_trains_the_same(idx_folder: Path, tmp_path: Path) -> None:
    from danlu import Recipe, fit

    small, mapped = load(str(idx_folder)), load(str(idx_folder), memory="1kB")
    assert mapped.mapped
    assert not small.mapped
    assert torch.equal(small.x, mapped.x)
    assert small.fingerprint == mapped.fingerprint
    recipe = Recipe(epochs=3, batch_size=7)
    weights = [fit(recipe, d, out=tmp_path / str(k)).model().state_dict() for k, d in enumerate((small, mapped))]
    assert all(torch.equal(a, b) for a, b in zip(weights[0].values(), weights[1].values(), strict=True))


def test_picture_folder_in_both_modes_and_with_official_parts(tmp_path: Path) -> None:
    data = load(str(make_pictures(tmp_path / "a")))
    assert tuple(data.x.shape) == (12, 3, 8, 10)
    assert data.schema.classes == ("cat", "dog")
    assert load(str(tmp_path / "a"), mode="L").schema.input_shape == (1, 8, 10)
    make_pictures(tmp_path / "b" / "train")
    make_pictures(tmp_path / "b" / "test", 3)
    parts = load(str(tmp_path / "b"))
    assert parts.size("test") == 6
    assert parts.size("train") + parts.size("valid") == 12


def test_csv_with_text_and_number_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = "\n".join(f"{i}.5,{'red' if i % 2 else 'blue'},{'yes' if i % 3 else 'no'}" for i in range(30))
    path.write_text("a,colour,answer\n" + rows)
    data = load(str(path), target="answer")
    assert data.schema.classes == ("no", "yes")
    assert data.x[1].tolist() == [1.5, 0.0, 1.0]
    assert [f for c in data.schema.columns for f in c.features] == ["a", "colour=blue", "colour=red"]
    assert load(str(path), target="a").schema.task == "regression"


def test_parquet_of_a_table_and_of_pictures(tmp_path: Path) -> None:
    import io

    frame = pd.DataFrame({"a": np.arange(20.0), "label": np.arange(20) % 2})
    frame.to_parquet(tmp_path / "t.parquet")
    assert load(str(tmp_path / "t.parquet"), target="label").schema.classes == ("0", "1")

    def png(v: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.full((4, 4), v, np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    folder = tmp_path / "pictures"
    folder.mkdir()
    for part, n in (("train", 10), ("test", 4)):
        rows = {"image": [{"bytes": png(i), "path": None} for i in range(n)], "label": [i % 2 for i in range(n)]}
        pd.DataFrame(rows).to_parquet(folder / f"{part}-00000.parquet")
    for _ in range(2):  # the second time from the cache of decoded pictures
        data = load(str(folder))
        assert data.x[:, 0, 0, 0].tolist() == [*range(10), *range(4)]
        assert data.size("test") == 4


def test_rows_with_missing_cells_are_left_out_when_asked(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(40.0), "b": ["x", "y"] * 20, "label": np.arange(40) % 2})
    frame.loc[[3, 7], "a"] = None
    frame.loc[[7, 11, 35], "b"] = None
    file = tmp_path / "t.csv"
    frame.to_csv(file, index=False)
    sentence = said(str(file))
    assert "row 4 of column 'a' in t.csv is missing or NaN; fill the 2 such cells, or use --missing drop" in sentence
    assert "row 8 of column 'b'" in sentence
    data = load(str(file), missing="drop")
    assert len(data) == 36
    assert data.missing == {"a": 2, "b": 3}
    assert sorted(data.x[:, 0].tolist()) == [v for v in range(40) if v not in (3, 7, 11, 35)]
    assert load(str(file), missing="drop").fingerprint == data.fingerprint == load(**data.source).fingerprint
    folder = tmp_path / "parts"
    folder.mkdir()
    frame[:30].to_parquet(folder / "train.parquet")
    frame[30:].to_parquet(folder / "test.parquet")
    parts = load(str(folder), missing="drop")
    assert (parts.size("test"), len(parts)) == (9, 36)
    assert set(parts.x[parts.parts["test"], 0].tolist()) == {30, 31, 32, 33, 34, 36, 37, 38, 39}
    assert "every row of the data frame" in said(pd.DataFrame({"a": [1, None], "label": [None, 1]}), missing="drop")
    frame["b"] = None
    for missing in ("refuse", "drop"):
        assert "column 'b' of the data frame has no value in any row; remove it" in said(frame, missing=missing)
        assert "no value in any row; fill in the target" in said(frame, target="b", missing=missing)


def test_rows_keep_their_numbers_when_others_are_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(40.0).astype(object), "b": np.arange(40.0), "label": np.arange(40) % 2})
    frame.loc[2, "b"] = None
    frame.loc[20, "a"], frame.loc[30, "b"] = "oops", np.inf
    frame.index += 100
    for missing in ("refuse", "drop"):
        sentence = said(frame, missing=missing)
        assert "row 21 of column 'a' in the data frame is 'oops'" in sentence
        assert "row 31 of column 'b' in the data frame is infinite" in sentence
    make_pictures(tmp_path / "p")
    content = [{"bytes": f.read_bytes(), "path": None} for f in sorted((tmp_path / "p").rglob("*.png"))]
    content[2]["bytes"], content[7]["bytes"] = None, b"no picture"
    pd.DataFrame({"image": content, "label": [0, 1] * 6}).to_parquet(tmp_path / "all.parquet")
    assert "row 8 of all.parquet is no picture" in said(str(tmp_path / "all.parquet"), missing="drop")
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, rows in (("test", content[6:]), ("train", content[:6])):
        pd.DataFrame({"image": rows, "label": [0, 1] * 3}).to_parquet(parts / f"{name}.parquet")
    assert "row 8 of parts (its parts in a row, training first) is no picture" in said(str(parts), missing="drop")


def test_tables_without_rows(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0], "label": [1]})[:0]
    frame.to_parquet(tmp_path / "t.parquet")
    pd.DataFrame({"image": [{"bytes": b"", "path": None}], "label": [1]})[:0].to_parquet(tmp_path / "p.parquet")
    for source in (frame, str(tmp_path / "t.parquet"), str(tmp_path / "p.parquet")):
        for missing in ("refuse", "drop"):
            assert said(source, missing=missing).endswith("has no rows")


def test_all_known_targets_say_what_the_task_is() -> None:
    frame = pd.DataFrame({"a": np.arange(63.0), "price": np.arange(63) % 21})
    frame.loc[frame.price == 20, "a"] = None
    assert load(frame, target="price", missing="drop").schema.task == "regression"
    mixed = pd.DataFrame({"a": np.arange(60.0), "label": [0, "1", "1.0"] * 20})
    mixed.loc[mixed.label == "1.0", "a"] = None
    assert load(mixed, missing="drop").schema.classes == ("0", "1")


def test_no_part_and_no_class_vanishes_with_its_missing_cells(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(60.0), "label": np.arange(60) % 3})
    frame[:40].to_parquet(tmp_path / "train.parquet")
    frame[40:].assign(label=None).to_parquet(tmp_path / "test.parquet")
    assert "no row of the test part of" in said(str(tmp_path), missing="drop")
    frame.loc[frame.label == 2, "a"] = None
    assert "no row of the class '2' in the data frame is whole" in said(frame, missing="drop")
    make_pictures(tmp_path / "p")
    content = [{"bytes": f.read_bytes(), "path": None} for f in sorted((tmp_path / "p").rglob("*.png"))]
    content[2]["bytes"] = content[5]["bytes"] = None
    pd.DataFrame({"image": content, "label": ["a", "b", "c", "a", "b", "c"] + ["a", "b"] * 3}).to_parquet(
        tmp_path / "all.parquet"
    )
    assert "no row of the class 'c' in all.parquet is whole" in said(str(tmp_path / "all.parquet"), missing="drop")
    one = pd.DataFrame({"a": [1, None], "label": [None, 1]})
    one.to_parquet(tmp_path / "one.parquet")
    assert "every row of one.parquet has a missing cell" in said(str(tmp_path / "one.parquet"), missing="drop")


def test_pictures_without_label_or_content(tmp_path: Path) -> None:
    make_pictures(tmp_path / "p")
    content = [{"bytes": f.read_bytes(), "path": None} for f in sorted((tmp_path / "p").rglob("*.png"))]
    content[2]["bytes"] = None
    labels = [0, 1] * 5 + [None, 1]
    pd.DataFrame({"image": content, "label": pd.array(labels, "Int64")}).to_parquet(tmp_path / "all.parquet")
    sentence = said(str(tmp_path / "all.parquet"))
    assert "column 'image' of all.parquet lacks 1 cell; fill it, or use --missing drop" in sentence
    assert "column 'label' of all.parquet lacks 1 cell" in sentence
    data = load(str(tmp_path / "all.parquet"), missing="drop", valid=False, split="50/50")
    assert data.y.tolist() == [0, 1, 1, 0, 1, 0, 1, 0, 1, 1]
    assert data.missing == {"image": 1, "label": 1}


def test_arrays_datasets_frames_and_labels_as_text() -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    assert load((x, y)).schema.task == "classification"
    assert load((x, y.astype(float))).schema.task == "regression"
    assert load((x, np.array(["b", "a"] * 10))).schema.classes == ("a", "b")
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    assert torch.equal(load(dataset).x, load((x, y)).x)
    frame = pd.DataFrame({"f": x[:, 0], "label": y})
    assert load(frame).schema.target == "label"
    assert load((np.zeros((20, 4, 4), np.uint8), y)).schema.input_shape == (1, 4, 4)


def test_a_limit_is_a_stratified_part_of_the_training_part() -> None:
    data, whole = load("digits", limit=100), load("digits")
    assert data.size("train") == 100
    assert load("digits", limit=12).size("train") == 12
    assert set(data.parts["train"].tolist()) < set(whole.parts["train"].tolist())
    assert data.class_counts("train").tolist() == [10] * 10 or data.class_counts("train").min() >= 9


@pytest.mark.data
def test_real_cifar_and_fashion(real_data: Path) -> None:
    assert load("fashion-mnist-3600").schema.classes[9] == "ankle boot"
    data = load("mnist")
    assert (len(data), data.size("test")) == (70_000, 10_000)
    assert data.class_counts("test").tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# ---- bad input: one sentence each, several together


def said(source: object, **options: object) -> str:
    with pytest.raises(DanluError) as caught:
        load(source, **options)  # type: ignore[arg-type]
    assert all("\n" not in m for m in caught.value.mistakes)
    return str(caught.value)


def test_unknown_names() -> None:
    assert "did you mean 'mnist'?" in said("mnits")
    assert "known names are" in said("qqqqqqqq")


def test_a_set_that_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from danlu.data import files

    monkeypatch.setenv("DANLU_DATA", str(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(files.urllib.request, "urlopen", refuse)
    text = said("mnist")
    assert "could not be fetched (no network); put train-images-idx3-ubyte.gz" in text
    assert str(tmp_path / "mnist") in text


def test_a_download_is_held_against_its_checksum(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import hashlib
    import io

    from danlu.data import files

    good = b"content"
    monkeypatch.setattr(
        files.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(good if "b.host" in url else b"tampered")
    )
    monkeypatch.setattr(
        files, "cache_folder", lambda *p: (tmp_path / "/".join(p)).mkdir(parents=True, exist_ok=True) or tmp_path / "/".join(p)
    )
    monkeypatch.delenv("DANLU_DATA", raising=False)
    remote = files.Remote("f.gz", hashlib.md5(good).hexdigest(), ("https://a.host/", "https://b.host/"))
    folder = files.find_or_fetch("x", (remote,))
    assert (folder / "f.gz").read_bytes() == good
    bad = files.Remote("g.gz", remote.md5, ("https://a.host/",))
    with pytest.raises(DataError, match="published checksum"):
        files.find_or_fetch("x", (bad,))


def test_empty_folder(tmp_path: Path) -> None:
    assert "is an empty folder" in said(tmp_path)


def test_class_folder_without_pictures(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    (tmp_path / "bird").mkdir()
    assert "no picture lies in the class folder 'bird'" in said(tmp_path)


def test_one_class_only(tmp_path: Path) -> None:
    x = np.zeros((10, 2), np.float32)
    assert "one class" in said((x, np.zeros(10, int)))


def test_fewer_examples_than_classes_and_parts() -> None:
    assert "there are 2 examples" in said((np.zeros((2, 2), np.float32), np.array([0, 1])))
    assert "for 100 classes" in said((np.zeros((5, 2), np.float32), np.array([0, 1, 2, 3, 99])))


def test_a_class_missing_from_a_part() -> None:
    y = np.array([0] * 30 + [1] * 30 + [2])
    text = said((np.zeros((61, 2), np.float32), y))
    assert "has no example of class '2' (1 in all)" in text


def test_labels_out_of_range_and_ragged() -> None:
    assert "`label` is -1, but must lie in 0…" in said((np.zeros((10, 2), np.float32), np.array([-1, 1] * 5)))
    assert "10 examples, but 9 labels" in said((np.zeros((10, 2), np.float32), np.array([0, 1, 0] * 3)))
    assert "x has shape" in said((np.zeros(10), np.zeros(10, int)))
    assert "holds NaN" in said((np.full((10, 2), np.nan, np.float32), np.arange(10) % 2))
    assert "is a int, but must be" in said(3)


def test_damaged_pictures_are_all_reported(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    (tmp_path / "cat" / "x.png").write_bytes(b"")
    (tmp_path / "cat" / "y.jpg").write_bytes(b"no picture")
    whole = (tmp_path / "dog" / "0.png").read_bytes()
    (tmp_path / "dog" / "z.png").write_bytes(whole[: len(whole) // 2])
    text = said(tmp_path)
    assert "cat/x.png is empty (0 bytes)" in text
    assert "cat/y.jpg is no picture" in text
    (tmp_path / "cat" / "x.png").unlink()
    (tmp_path / "cat" / "y.jpg").unlink()
    assert "dog/z.png is damaged" in said(tmp_path)


def test_decompression_bomb(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    Image.new("1", (10_000, 10_000)).save(tmp_path / "cat" / "bomb.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "bomb.png unpacks to more than" in said(tmp_path)
        with pytest.raises(Image.DecompressionBombWarning), Image.open(tmp_path / "cat" / "bomb.png"):
            pass  # elsewhere Pillow warns as ever


def test_a_full_disk_leaves_no_half_of_the_decoded_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pictures(tmp_path / "p")
    content = [{"bytes": f.read_bytes(), "path": None} for f in sorted((tmp_path / "p").rglob("*.png"))]
    pd.DataFrame({"image": content, "label": [0, 1] * 6}).to_parquet(tmp_path / "all.parquet")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def full(file: Any, array: np.ndarray) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert len(load(str(tmp_path / "all.parquet"), split="50/50", valid=False)) == 12
    assert not [f for f in (tmp_path / "cache").rglob("*") if f.is_file()]


def test_sixteen_bits_floats_and_cameras_held_sideways(tmp_path: Path) -> None:
    from danlu.data.images import decode

    wide = tmp_path / "wide.png"
    Image.fromarray(np.full((2, 2), 0x8040, np.uint16)).save(wide)
    assert decode(wide, "wide.png", "L", None).tolist() == [[[0x80] * 2] * 2]
    real = tmp_path / "real.tif"
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(real)
    with pytest.raises(DataError, match="holds floating-point values"):
        decode(real, "real.tif", "L", None)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    picture = np.kron([[0, 255, 0], [255, 255, 0]], np.ones((8, 8))).astype(np.uint8)
    Image.fromarray(picture).save(turned, exif=exif, quality=100)
    assert np.array_equal(decode(turned, "turned.jpg", "L", None)[0] > 127, np.rot90(picture, -1) > 127)


def test_columns_of_lists_and_dates() -> None:
    frame = pd.DataFrame({"a": [[1, 2]] * 20, "when": pd.date_range("2020", periods=20), "label": np.arange(20) % 2})
    text = said(frame)
    assert "column 'a' of the data frame holds lists" in text
    assert "column 'when' of the data frame holds dates" in text


def test_mixed_sizes_and_modes(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    Image.new("L", (5, 5)).save(tmp_path / "cat" / "small.png")
    text = said(tmp_path)
    assert "2 sizes" in text
    assert "mixed modes" in text
    assert load(tmp_path, resize=6, mode="RGB").schema.input_shape == (3, 6, 6)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a,b\n1,2\n3,4\n5,6", "no target is named; try --target b"),
        ("a,a,label\n1,2,x\n1,2,y", "column 'a' more than once"),
        ("a,label\n1,x\n,y\n3,x", "row 2 of column 'a' in t.csv is missing or NaN"),
        ("a,label\n1,x\ninf,y\n3,x", "row 2 of column 'a' in t.csv is infinite"),
        ("a,label\n1,x\ntwo,y\n3,x\n4,y", "row 2 of column 'a' in t.csv is 'two', but the column holds numbers"),
        ("a,label\n1,x\n2,\n3,x", "(the target) is missing"),
        ("a,label\n1,x,9\n2,y,9\n", "line 2 of t.csv has 3 cells, but its header has 2"),
        ("a,label\n1,x\n1e300,y\n3,x", "row 2 of column 'a' in t.csv is infinite or beyond"),
        ("a,label\n1,x\n" + "9" * 400 + ",y\n3,x", "row 2 of column 'a' in t.csv is infinite or beyond"),
        ("a,label\n1,1e300\n2,3\n", "(the target) is infinite or beyond"),
        ("a,label\n", "has no rows"),
        ("", "is no table"),
        ("label\nx\ny", "no column beside the target"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, want: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert want in said(path)


def test_several_mistakes_of_a_table_come_together_and_a_wrong_target_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,species\n1,,x\ntwo,2,y\n3,3,x\n4,4,y\n")
    text = said(path)
    assert "column 'a'" in text
    assert "column 'b'" in text
    assert "did you mean 'species'?" in said(path, target="specie")
    path.write_bytes(b"a,label\n\xff\xfe,1\n")
    assert "is not UTF-8" in said(path)


@pytest.mark.parametrize("cut", [3, 10, 200, -300])
def test_truncated_idx(idx_folder: Path, cut: int) -> None:
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:cut])
    assert "train-images-idx3-ubyte.gz" in said(idx_folder)
    raw = gzip.decompress(gzip.compress(struct.pack(">4I", 0x803, 60, 6, 5) + bytes(100)))
    path.write_bytes(raw)
    assert "is truncated: it promises 1800 bytes, but has 100" in said(idx_folder)


def test_foreign_and_unmatched_idx(idx_folder: Path) -> None:
    labels = idx_folder / "train-labels-idx1-ubyte.gz"
    write_idx(labels, np.zeros(59))
    assert "has 60 images, but train-labels-idx1-ubyte.gz has 59 labels" in said(idx_folder)
    write_idx(labels, np.zeros((60, 2, 2)))
    assert "is no IDX file of labels" in said(idx_folder)


def test_idx_of_nothing_and_of_too_much(idx_folder: Path) -> None:
    path = idx_folder / "train-images-idx3-ubyte.gz"
    write_idx(path, np.zeros((0, 6, 5)))
    assert "promises 0 images of 6×5" in said(idx_folder)
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 2**31, 2**15, 2**15)))
    assert "is truncated: it promises" in said(idx_folder)


def test_an_official_validation_part_stays_whole_without_a_test_part() -> None:
    x, y = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32), np.arange(100) % 2
    data = load({"train": (x[:80], y[:80]), "valid": (x[80:], y[80:])})
    assert data.parts["valid"].tolist() == list(range(80, 100))
    assert set(data.parts["test"].tolist()) < set(range(80))


def test_bad_options() -> None:
    assert "`memory` is 'lots'" in said("digits", memory="lots")
    assert "`resize` is 0" in said("digits", resize=0)
    assert "`resize` is '8', but must be a number of pixels" in said("digits", resize="8")
    assert "`mode` is 'CMYK'" in said("digits", mode="CMYK")
    assert "`task` is 'clustering'" in said("digits", task="clustering")
    assert len(said("digits", memory="lots", resize=0, mode="CMYK", task="clustering", missing="keep").splitlines()) == 5
    assert "`missing` is 'drop', but must be left out" in said((np.zeros((9, 2)), np.arange(9) % 2), missing="drop")
    assert "`limit` is 0" in said("digits", limit=0)
    assert "`limit` is 3, but must be at least 10, one example per class" in said("digits", limit=3)
    assert "`mode` is 'L', but must be left out: it does nothing for 'digits'" in said("digits", mode="L")
    assert "`missing` is 'keep'" in said("digits", missing="keep")
    both = said("iris", mode="L", resize=8)
    assert "`mode`" in both
    assert "`resize`" in both
    assert "`target` is 'y', but must be left out: it does nothing for arrays" in said(
        (np.zeros((9, 2)), np.arange(9) % 2), target="y"
    )


def test_options_that_a_file_has_no_use_for(idx_folder: Path, tmp_path: Path) -> None:
    assert "`mode` is 'RGB', but must be left out: it does nothing for IDX files" in said(str(idx_folder), mode="RGB")
    table = tmp_path / "t.csv"
    table.write_text("a,label\n" + "\n".join(f"{i},{i % 2}" for i in range(20)))
    assert "it does nothing for a table" in said(str(table), resize=4)
    assert "it does nothing for a folder of pictures" in said(str(make_pictures(tmp_path / "p")), target="cat")
    assert "`source` is ''" in said("")


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    from danlu.data import arrow

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(arrow, "_hub_answers", lambda: False)
    assert "`hub:owner/no-such-set` could not be loaded" in said("hub:owner/no-such-set")


def test_a_hub_data_set_by_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` hands over, built here: pictures with class names, and an official test part."""
    import datasets

    from danlu.data import arrow

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "light"])})
    rows = {"image": [Image.new("L", (4, 4), 250 * (i % 2)) for i in range(20)], "label": [i % 2 for i in range(20)]}
    part = datasets.Dataset.from_dict(rows, features=features)
    monkeypatch.setattr(arrow, "_hub_answers", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict(train=part, test=part.select(range(6))))
    data = load("hub:owner/name")
    assert data.schema.classes == ("dark", "light")
    assert data.size("test") == 6
    assert data.x[1].unique().tolist() == [250]
