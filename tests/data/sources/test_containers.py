"""What programs hold examples in: each gives the examples that (x, y) gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.datasets import load_iris
from torch.utils.data import DataLoader, Dataset, TensorDataset

from danlu import Data, load

N = 60
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
Y = np.arange(N) % 3
TENSORS = TensorDataset(torch.tensor(X), torch.tensor(Y))
LATE = 40  # from here on the examples are the test part


class Named(Dataset[Any]):
    """Examples by name, as sets of other libraries give them."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, k: int) -> dict[str, Any]:
        return {"numbers": X[k], "label": int(Y[k])}


class OfTwo(Named):
    """Examples of two inputs by name."""

    def __getitem__(self, k: int) -> dict[str, Any]:
        return {"a": X[k, :2], "b": X[k, 2:], "labels": int(Y[k])}


WHOLE: dict[str, Callable[[], Any]] = {
    "a column of targets": lambda: (X, Y[:, None]),
    "one-hot targets": lambda: (X, np.eye(3)[Y]),
    "lists": lambda: (X.tolist(), Y.tolist()),
    "a list of pairs": lambda: list(zip(X, Y.tolist(), strict=True)),
    "a sparse matrix": lambda: (csr_matrix(X), Y),
    "a dictionary": lambda: {"X": X, "y": Y},
    "a dataset": lambda: TENSORS,
    "a dataset of named fields": Named,
    "records of arrays": lambda: [Named()[k] for k in range(N)],
    "a loader": lambda: DataLoader(TENSORS, batch_size=7, shuffle=True),
}


@pytest.mark.filterwarnings("ignore::danlu.errors.DataNotice")
@pytest.mark.parametrize("source", WHOLE.values(), ids=WHOLE.keys())
def test_every_container_holds_the_examples_of_its_pair(source: Callable[[], Any]) -> None:
    data, plain = load(source(), seed=3), load((X, Y), seed=3)
    assert torch.equal(data.x, plain.x) and torch.equal(data.y, plain.y)
    assert data.schema.classes == ("0", "1", "2")


def early(a: Any) -> Any:
    """Return the examples of the training part."""
    return a[:LATE]


def late(a: Any) -> Any:
    """Return the examples of the test part."""
    return a[LATE:]


FRAME = pd.DataFrame(X, columns=["p", "q", "r"])
PARTS: dict[str, Callable[[], Any]] = {
    "as Keras gives them": lambda: ((early(X), early(Y)), (late(X), late(Y))),
    "as train_test_split gives them": lambda: (early(X), late(X), early(Y), late(Y)),
    "pair by pair": lambda: (early(X), early(Y), late(X), late(Y)),
    "a dictionary of names": lambda: {
        "X_train": early(X),
        "y_train": early(Y),
        "X_test": late(X),
        "y_test": late(Y),
    },
    "loaders": lambda: (
        DataLoader(TensorDataset(*map(early, TENSORS.tensors)), 4),
        DataLoader(TensorDataset(*map(late, TENSORS.tensors)), 4),
    ),
    "dictionaries by part": lambda: {
        "train": {"x": early(X), "y": early(Y)},
        "test": {"x": late(X), "y": late(Y)},
    },
    "loaders by part": lambda: {
        "training": DataLoader(TensorDataset(*map(early, TENSORS.tensors)), 4),
        "test": DataLoader(TensorDataset(*map(late, TENSORS.tensors)), 4),
    },
    "frames and series": lambda: (early(FRAME), late(FRAME), pd.Series(Y[:LATE]), pd.Series(Y[LATE:])),
    "frames by part": lambda: {
        "train": early(FRAME.assign(target=Y)),
        "test": late(FRAME.assign(target=Y)),
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::danlu.errors.DataNotice")
@pytest.mark.parametrize("source", PARTS.values(), ids=PARTS.keys())
def test_parts_are_found_in_every_order_that_people_hold_them_in(source: Callable[[], Any]) -> None:
    data = load(source())
    assert data.parts["test"].tolist() == list(range(LATE, N))
    np.testing.assert_allclose(np.asarray(in_their_units(data)), X, rtol=1e-5)
    assert data.y.tolist() == Y.tolist()


def in_their_units(data: Data) -> torch.Tensor:
    """Return the examples without the shift and scale that columns of a frame keep."""
    columns = data.schema.columns
    scale = torch.tensor([column.scale for column in columns], dtype=torch.float64)
    return data.x * scale + torch.tensor([column.shift for column in columns])


def test_parts_by_their_order_are_said() -> None:
    with pytest.warns(UserWarning, match="taken as the parts train, test, in this order"):
        load(((early(X), early(Y)), (late(X), late(Y))))


def test_a_set_of_scikit_learn_keeps_its_names() -> None:
    theirs = load_iris()
    for bunch in (theirs, load_iris(as_frame=True)):
        data = load(bunch)
        assert data.schema.classes == tuple(theirs.target_names)
        assert [column.name for column in data.schema.columns] == theirs.feature_names
        assert np.array_equal(data.y.numpy(), theirs.target)


def test_the_last_tensor_of_a_dataset_is_the_target_and_the_others_inputs() -> None:
    x, y = torch.tensor(X), torch.tensor(Y)
    data = load(TensorDataset(x[:, :2], x[:, 2:], y))
    assert [part.shape for part in data.schema.inputs] == [(2,), (1,)]
    assert torch.equal(data.x, x) and torch.equal(data.y, y)


def test_named_fields_beside_the_label_are_inputs_by_name() -> None:
    data = load(OfTwo())
    assert [part.name for part in data.schema.inputs] == ["a", "b"]
    assert np.array_equal(data.x.numpy(), X) and np.array_equal(data.y.numpy(), Y)


def test_records_are_a_table() -> None:
    rows = [
        {"size": float(k), "colour": "red" if k % 2 else "blue", "target": k % 2} for k in range(40)
    ]
    data, plain = load(rows), load(pd.DataFrame(rows))
    assert data.schema.columns == plain.schema.columns
    assert torch.equal(data.x, plain.x) and torch.equal(data.y, plain.y)


def test_rows_of_numbers_and_words_are_a_table() -> None:
    frame = pd.DataFrame({"size": X[:, 0], "colour": np.where(Y == 1, "red", "blue")})
    data = load((frame.to_numpy(), Y))
    assert [column.kind for column in data.schema.columns] == ["number", "category"]


def test_a_single_number_an_example_is_an_input() -> None:
    x = np.linspace(0, 1, N)
    data = load((x, np.sin(x)))
    assert data.schema.input_shape == (1,) and data.schema.is_regression


def test_sets_of_the_hub_s_library_keep_the_names_of_classes_and_their_order() -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    texts = {"text": [f"film number {k}" for k in range(N)], "label": [k % 2 for k in range(N)]}
    whole = datasets.Dataset.from_dict(texts, features=features)
    part = whole.shuffle(seed=0).select(range(20))
    data = load({"train": whole, "test": part})
    assert data.schema.task == "classification" and data.schema.classes == ("bad", "good")
    assert data.part("test")[1].tolist() == part["label"]
