"""Bad input: one sentence each, several together."""

from __future__ import annotations

import gzip
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from samples import make_pictures, quietly, refused, write_idx

from danlu.data import load
from danlu.errors import DataError, DataNotice


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    assert "did you mean 'mnist'?" in refused("mnits")
    assert "known names are" in refused("qqqqqqqq")


def test_a_set_that_is_not_here_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from danlu.data.sources import download

    monkeypatch.setenv("DANLU_DATA", str(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(download.urllib.request, "urlopen", refuse)
    text = refused("mnist")
    assert "could not be fetched (no network); put train-images-idx3-ubyte.gz" in text
    assert str(tmp_path / "mnist") in text


def test_a_download_is_checked_against_its_checksum(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import hashlib
    import io

    from danlu.data.sources import download

    good = b"content"
    monkeypatch.setattr(
        download.urllib.request,
        "urlopen",
        lambda url, timeout: io.BytesIO(good if "b.host" in url else b"tampered"),
    )
    monkeypatch.setattr(
        download,
        "cache_folder",
        lambda *p: (
            (tmp_path / "/".join(p)).mkdir(parents=True, exist_ok=True) or tmp_path / "/".join(p)
        ),
    )
    monkeypatch.delenv("DANLU_DATA", raising=False)
    remote = download.Remote(
        "f.gz", hashlib.md5(good).hexdigest(), ("https://a.host/", "https://b.host/")
    )
    folder = download.find_or_fetch("x", (remote,))
    assert (folder / "f.gz").read_bytes() == good
    bad = download.Remote("g.gz", remote.md5, ("https://a.host/",))
    with pytest.raises(DataError, match="published checksum"):
        download.find_or_fetch("x", (bad,))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "is an empty folder" in refused(tmp_path)


def test_a_class_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    (tmp_path / "bird").mkdir()
    assert "no picture lies in the class folder 'bird'" in refused(tmp_path)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    x = np.zeros((10, 2), np.float32)
    assert "one class" in refused((x, np.zeros(10, int)))


def test_fewer_examples_than_parts_are_refused() -> None:
    assert "the data have 2 examples" in refused((np.zeros((2, 2), np.float32), np.array([0, 1])))


def test_training_gets_the_example_of_a_rare_class_and_the_others_are_told() -> None:
    for place in range(0, 61, 7):
        y = np.insert(np.array([0] * 30 + [1] * 30), place, 2)
        data = quietly((np.zeros((61, 2), np.float32), y), seed=place)
        assert data.class_counts("train")[2] == 1
        assert sorted(np.concatenate([data.parts[p] for p in data.parts])) == list(range(61))
        told = "the valid part has no example of class '2' (1 in all), which is not scored there"
        assert told in data.notices
    x = np.zeros((20, 2), np.float32)
    official = {"train": (x, np.arange(20) % 2), "test": (x[:5], np.array([0, 1, 2, 0, 1]))}
    notices = quietly(official).notices
    assert (
        "the train part has no example of class '2' (1 in all), which cannot be learnt" in notices
    )
    only = {"train": (x, np.zeros(20, int)), "test": (x[:5], np.ones(5, int))}
    assert "the train part has no example of class '1'" in refused(only)


def test_arrays_of_wrong_labels_shapes_or_values_are_refused() -> None:
    assert "10 examples, but 9 labels" in refused(
        (np.zeros((10, 2), np.float32), np.array([0, 1, 0] * 3))
    )
    assert "x has shape" in refused((np.zeros((10, 1, 1, 1, 1)), np.arange(10) % 2))
    assert "each example needs one target" in refused((np.zeros((10, 2)), np.full((10, 3), 0.5)))
    assert "give the targets as well" in refused(np.zeros((10, 2)))
    assert "give list(…) of it" in refused(iter([(np.zeros(2), 0)] * 10))
    assert "holds NaN" in refused((np.full((10, 2), np.nan, np.float32), np.arange(10) % 2))
    assert "is a int, but must be" in refused(3)


def test_damaged_pictures_are_left_out_and_named(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    (tmp_path / "cat" / "x.png").write_bytes(b"")
    (tmp_path / "cat" / "y.jpg").write_bytes(b"no picture")
    whole = (tmp_path / "dog" / "0.png").read_bytes()
    (tmp_path / "dog" / "z.png").write_bytes(whole[: len(whole) // 2])
    data = quietly(tmp_path)
    (notice,) = [text for text in data.notices if "cannot be read" in text]
    assert "left out: 3 pictures" in notice
    assert "cat/x.png is empty (0 bytes)" in notice
    assert "cat/y.jpg is no picture" in notice
    assert "dog/z.png is damaged" in notice
    assert len(data) == 12 and data.class_counts("train").sum() + data.size("test") > 0


def test_a_folder_of_which_no_picture_opens_is_refused(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(5):
            (tmp_path / name / f"{k}.jpg").write_bytes(b"no picture")
    assert "cat/0.jpg is no picture that can be read" in refused(tmp_path)


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    make_pictures(tmp_path)
    Image.new("1", (10_000, 10_000)).save(tmp_path / "cat" / "bomb.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataNotice)
        assert "bomb.png unpacks to more than" in load(tmp_path).notices[-1]
        with (
            pytest.raises(Image.DecompressionBombWarning),
            Image.open(tmp_path / "cat" / "bomb.png"),
        ):
            pass  # elsewhere Pillow warns as ever


def test_a_full_disk_leaves_no_half_of_the_decoded_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "p")
    content = [
        {"bytes": f.read_bytes(), "path": None} for f in sorted((tmp_path / "p").rglob("*.png"))
    ]
    pd.DataFrame({"image": content, "label": [0, 1] * 6}).to_parquet(tmp_path / "all.parquet")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def full(file: Any, array: np.ndarray) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert len(load(str(tmp_path / "all.parquet"), split="50/50", valid=False)) == 12
    assert not [f for f in (tmp_path / "cache").rglob("*") if f.is_file()]


def test_sixteen_bit_and_rotated_pictures_are_read_and_floats_refused(tmp_path: Path) -> None:
    from danlu.data.sources.images import decode

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
    assert np.array_equal(
        decode(turned, "turned.jpg", "L", None)[0] > 127, np.rot90(picture, -1) > 127
    )


def test_columns_of_lists_are_left_out() -> None:
    frame = pd.DataFrame(
        {"a": [[1, 2]] * 20, "when": pd.date_range("2020", periods=20), "label": np.arange(20) % 2}
    )
    data = quietly(frame)
    assert [column.name for column in data.schema.columns] == ["when"]
    assert any("left out: a (lists and the like)" in notice for notice in data.notices)


def test_pictures_of_mixed_sizes_and_modes_are_brought_to_one(tmp_path: Path) -> None:
    make_pictures(tmp_path, size=(40, 50))
    Image.new("L", (60, 70)).save(tmp_path / "cat" / "small.png")
    data = quietly(tmp_path)
    assert data.schema.input_shape == (3, 32, 32) and data.schema.mode == "RGB"
    assert any("2 sizes are brought to 32×32" in notice for notice in data.notices)
    assert load(tmp_path, resize=6, mode="RGB").schema.input_shape == (3, 6, 6)


ROWS = "\n".join(f"{k},{k % 7},{'xy'[k % 2]}" for k in range(40))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (f"a,b,c\n{ROWS}", "no target is named; try --target c"),
        (f"a,b,label\n{ROWS}\n1,2,x,9", "line 42 of t.csv has 4 cells, but those before it have 3"),
        ("a,label\n" + "1,\n" * 9, "no row of t.csv has a value in the target 'label'"),
        ("a,label\n" + "1,x\n2,x\n" * 9, "of the one class 'x' in 'label'; name another target"),
        ("a,label\n" + "\n".join(f"{k},w{k}" for k in range(40)), "names rows and no classes"),
        ("a,target\n" + "1,2.5\n3,2.5\n" * 9, "the target 'target' is 2.5 in every row"),
        ("a,label\n" + "1,1e300\n2,2.5\n" * 9, "is infinite or beyond ±3.4e+38; rescale it"),
        ("a,label\n", "has no rows"),
        ("", "is empty; a table needs a row"),
        ("label\nx\ny\nx", "no column beside the target"),
        ("a,label\n" + "7,x\n7,y\n" * 9, "no column to learn from beside the target 'label': a (constant)"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_in_a_sentence(tmp_path: Path, text: str, want: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert want in refused(path)


def test_contradictory_options_are_refused_together(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"a,b,label\n{ROWS}")
    text = refused(path, drop="a", keep="a", category="lable", number="label")
    assert "`keep` is 'a', but must not be in `drop`, too; name it once" in text
    assert "`category` is 'lable', but must be a column of t.csv; did you mean 'label'?" in text
    assert "`number` is 'label', but must not be the target" in text
    assert "did you mean 'label'?" in refused(path, target="lable")
    assert "leaves one column of t.csv; leave it out" in refused(path, separator=";")
    assert "`header` is 'maybe', but must be first or none" in refused(path, header="maybe")


@pytest.mark.parametrize("cut", [3, 10, 200, -300])
def test_a_truncated_idx_file_is_refused(idx_folder: Path, cut: int) -> None:
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:cut])
    assert "train-images-idx3-ubyte.gz" in refused(idx_folder)
    raw = gzip.decompress(gzip.compress(struct.pack(">4I", 0x803, 60, 6, 5) + bytes(100)))
    path.write_bytes(raw)
    assert "is truncated: it promises 1800 bytes, but has 100" in refused(idx_folder)


def test_idx_files_of_another_kind_or_of_unequal_counts_are_refused(idx_folder: Path) -> None:
    labels = idx_folder / "train-labels-idx1-ubyte.gz"
    write_idx(labels, np.zeros(59))
    assert "has 60 images, but train-labels-idx1-ubyte.gz has 59 labels" in refused(idx_folder)
    write_idx(labels, np.zeros((60, 2, 2)))
    assert "is no IDX file of labels" in refused(idx_folder)


def test_idx_files_that_claim_nothing_or_too_much_are_refused(idx_folder: Path) -> None:
    path = idx_folder / "train-images-idx3-ubyte.gz"
    write_idx(path, np.zeros((0, 6, 5)))
    assert "promises 0 images of 6×5" in refused(idx_folder)
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 2**31, 2**15, 2**15)))
    assert "is truncated: it promises" in refused(idx_folder)


def test_an_official_validation_part_stays_whole_without_a_test_part() -> None:
    x, y = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32), np.arange(100) % 2
    data = load({"train": (x[:80], y[:80]), "valid": (x[80:], y[80:])})
    assert data.parts["valid"].tolist() == list(range(80, 100))
    assert set(data.parts["test"].tolist()) < set(range(80))


def test_bad_options_are_refused() -> None:
    assert "`memory` is 'lots'" in refused("digits", memory="lots")
    assert "`resize` is 0" in refused("digits", resize=0)
    assert "`resize` is '8', but must be a number of pixels" in refused("digits", resize="8")
    assert "`mode` is 'CMYK'" in refused("digits", mode="CMYK")
    assert "`task` is 'clustering'" in refused("digits", task="clustering")
    assert (
        len(
            refused(
                "digits", memory="lots", resize=0, mode="CMYK", task="clustering", missing="keep"
            ).splitlines()
        )
        == 5
    )
    assert "`missing` is 'drop', but must be left out" in refused(
        (np.zeros((9, 2)), np.arange(9) % 2), missing="drop"
    )
    assert "`limit` is 0" in refused("digits", limit=0)
    assert "`limit` is 3, but must be at least 10, one example per class" in refused(
        "digits", limit=3
    )
    assert "`mode` is 'L', but must be left out: it does nothing for 'digits'" in refused(
        "digits", mode="L"
    )
    assert "`missing` is 'keep'" in refused("digits", missing="keep")
    both = refused("iris", mode="L", resize=8)
    assert "`mode`" in both
    assert "`resize`" in both
    assert "`target` is 'y', but must be left out: it does nothing for arrays" in refused(
        (np.zeros((9, 2)), np.arange(9) % 2), target="y"
    )


def test_options_that_a_file_cannot_use_are_refused(idx_folder: Path, tmp_path: Path) -> None:
    assert "`mode` is 'RGB', but must be left out: it does nothing for IDX files" in refused(
        str(idx_folder), mode="RGB"
    )
    table = tmp_path / "t.csv"
    table.write_text("a,label\n" + "\n".join(f"{i},{i % 2}" for i in range(20)))
    assert "it does nothing for a table" in refused(str(table), resize=4)
    assert "it does nothing for a folder of pictures" in refused(
        str(make_pictures(tmp_path / "p")), target="cat"
    )
    assert "`source` is ''" in refused("")


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from danlu.data.sources import parquet

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(parquet, "_hub_answers", lambda: False)
    assert "`hub:owner/no-such-set` could not be loaded" in refused("hub:owner/no-such-set")


def test_a_hub_data_set_is_read_by_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` hands over, built here: pictures with class names, and an official test part."""
    import datasets

    from danlu.data.sources import parquet

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "light"])}
    )
    rows = {
        "image": [Image.new("L", (4, 4), 250 * (i % 2)) for i in range(20)],
        "label": [i % 2 for i in range(20)],
    }
    part = datasets.Dataset.from_dict(rows, features=features)
    monkeypatch.setattr(parquet, "_hub_answers", lambda: True)
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name: datasets.DatasetDict(train=part, test=part.select(range(6))),
    )
    data = load("hub:owner/name")
    assert data.schema.classes == ("dark", "light")
    assert data.size("test") == 6
    assert data.x[1].unique().tolist() == [250]
