"""What each source gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from samples import make_pictures

from danlu.data import load


def test_bundled_sets_equal_scikit_learn_s() -> None:
    from sklearn import datasets

    loaders = {"digits": "digits", "iris": "iris", "wine": "wine", "breast-cancer": "breast_cancer"}
    for name, function in loaders.items():
        theirs = getattr(datasets, f"load_{function}")()
        ours = load(name)
        unit = 16 / 255 if name == "digits" else 1
        np.testing.assert_allclose(
            ours.x.flatten(1).numpy() * unit,
            theirs.data,
            rtol=1e-6,
            atol=0.04 if name == "digits" else 0,
        )
        assert np.array_equal(ours.y.numpy(), theirs.target)
        assert list(ours.schema.classes) == [str(c) for c in theirs.target_names]
    theirs, ours = datasets.load_diabetes(scaled=False), load("diabetes")
    np.testing.assert_allclose(ours.x.numpy(), theirs.data, rtol=1e-6)
    np.testing.assert_allclose(ours.y.numpy(), theirs.target)
    assert ours.schema.task == "regression"


def test_an_idx_folder_is_read_as_it_is_and_resized(idx_folder: Path) -> None:
    data = load(str(idx_folder))
    assert tuple(data.x.shape) == (80, 1, 6, 5)
    assert data.x.dtype == torch.uint8
    assert data.parts["test"].tolist() == list(range(60, 80))
    big = load(str(idx_folder), resize=12)
    assert big.schema.input_shape == (1, 12, 12)
    want = np.asarray(
        Image.fromarray(data.x[3, 0].numpy()).resize((12, 12), Image.Resampling.BILINEAR)
    )
    assert np.array_equal(big.x[3, 0].numpy(), want)


def test_data_larger_than_the_budget_are_mapped_and_train_the_same(
    idx_folder: Path, tmp_path: Path
) -> None:
    from danlu import Recipe, fit

    small, mapped = load(str(idx_folder)), load(str(idx_folder), memory="1kB")
    assert mapped.mapped
    assert not small.mapped
    assert torch.equal(small.x, mapped.x)
    assert small.fingerprint == mapped.fingerprint
    recipe = Recipe(epochs=3, batch_size=7)
    weights = [
        fit(recipe, d, out=tmp_path / str(k)).model().state_dict()
        for k, d in enumerate((small, mapped))
    ]
    assert all(
        torch.equal(a, b) for a, b in zip(weights[0].values(), weights[1].values(), strict=True)
    )


def test_a_picture_folder_is_read_in_grey_in_colour_and_with_official_parts(tmp_path: Path) -> None:
    data = load(str(make_pictures(tmp_path / "a")))
    assert tuple(data.x.shape) == (12, 3, 8, 10)
    assert data.schema.classes == ("cat", "dog")
    assert load(str(tmp_path / "a"), mode="L").schema.input_shape == (1, 8, 10)
    make_pictures(tmp_path / "b" / "train")
    make_pictures(tmp_path / "b" / "test", 3)
    parts = load(str(tmp_path / "b"))
    assert parts.size("test") == 6
    assert parts.size("train") + parts.size("valid") == 12


def test_csv_columns_of_text_and_numbers_become_features(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = "\n".join(
        f"{i}.5,{'red' if i % 2 else 'blue'},{'yes' if i % 3 else 'no'}" for i in range(30)
    )
    path.write_text("a,colour,answer\n" + rows)
    data = load(str(path), target="answer")
    assert data.schema.classes == ("no", "yes")
    assert data.x[1].tolist() == [1.5, 0.0, 1.0]
    assert [f for c in data.schema.columns for f in c.features] == [
        "a",
        "colour=blue",
        "colour=red",
    ]
    assert load(str(path), target="a").schema.task == "regression"


def test_parquet_files_of_tables_and_of_pictures_are_read(tmp_path: Path) -> None:
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
        rows = {
            "image": [{"bytes": png(i), "path": None} for i in range(n)],
            "label": [i % 2 for i in range(n)],
        }
        pd.DataFrame(rows).to_parquet(folder / f"{part}-00000.parquet")
    for _ in range(2):  # the second time from the cache of decoded pictures
        data = load(str(folder))
        assert data.x[:, 0, 0, 0].tolist() == [*range(10), *range(4)]
        assert data.size("test") == 4


def test_arrays_datasets_frames_and_text_labels_are_read() -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    assert load((x, y)).schema.task == "classification"
    assert load((x, y.astype(float))).schema.classes == ("0", "1")
    assert load((x, y.astype(float)), task="regression").schema.task == "regression"
    assert load((x, y + 0.5 * x[:, 0])).schema.task == "regression"
    assert load((x, np.array(["b", "a"] * 10))).schema.classes == ("a", "b")
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    assert torch.equal(load(dataset).x, load((x, y)).x)
    frame = pd.DataFrame({"f": x[:, 0], "label": y})
    assert load(frame).schema.target == "label"
    assert load((np.zeros((20, 4, 4), np.uint8), y)).schema.input_shape == (1, 4, 4)


def test_a_limit_keeps_a_stratified_sample_of_the_training_part() -> None:
    data, whole = load("digits", limit=100), load("digits")
    assert data.size("train") == 100
    assert load("digits", limit=12).size("train") == 12
    assert set(data.parts["train"].tolist()) < set(whole.parts["train"].tolist())
    assert data.class_counts("train").tolist() == [10] * 10 or data.class_counts("train").min() >= 9


@pytest.mark.data
def test_real_mnist_and_fashion_mnist_are_read(real_data: Path) -> None:
    assert load("fashion-mnist-3600").schema.classes[9] == "ankle boot"
    data = load("mnist")
    assert (len(data), data.size("test")) == (70_000, 10_000)
    assert data.class_counts("test").tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
