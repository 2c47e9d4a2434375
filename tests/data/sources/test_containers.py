"""What programs hold examples in: each gives the examples that (x, y) gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from samples import refused
from scipy.sparse import csr_matrix
from sklearn.datasets import load_breast_cancer, load_iris
from torch.utils.data import (
    DataLoader,
    Dataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

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
    # The names of iris are in the order of the alphabet, those of breast cancer are not.
    for theirs in (load_iris, load_breast_cancer):
        bunch = theirs()
        for given in (bunch, theirs(as_frame=True)):
            data = load(given)
            assert data.schema.classes == tuple(bunch.target_names)
            names = [column.name for column in data.schema.columns]
            assert names == list(bunch.feature_names)
            assert np.array_equal(data.y.numpy(), bunch.target)


def test_the_last_tensor_of_a_dataset_is_the_target_and_the_others_inputs() -> None:
    x, y = torch.tensor(X), torch.tensor(Y)
    data = load(TensorDataset(x[:, :2], x[:, 2:], y))
    assert [part.shape for part in data.schema.inputs] == [(2,), (1,)]
    assert torch.equal(data.x, x) and torch.equal(data.y, y)


def test_named_fields_beside_the_label_are_inputs_by_name() -> None:
    data = load(OfTwo())
    assert [part.name for part in data.schema.inputs] == ["a", "b"]
    assert np.array_equal(data.x.numpy(), X) and np.array_equal(data.y.numpy(), Y)


FIRST, SECOND = 30, 40  # where the validation part begins, and the test part
THREE: dict[str, Callable[[Any, Any], Any]] = {
    "pairs": lambda x, y: tuple(zip(cut(x), cut(y), strict=True)),
    "inputs, then targets": lambda x, y: (*cut(x), *cut(y)),
    "pair by pair": lambda x, y: (cut(x)[0], cut(y)[0], cut(x)[1], cut(y)[1], cut(x)[2], cut(y)[2]),
    "subsets": lambda x, y: tuple(
        Subset(TENSORS, range(*ends)) for ends in ((0, FIRST), (FIRST, SECOND), (SECOND, N))
    ),
    "frames": lambda x, y: tuple(cut(FRAME.assign(target=Y))),
    "sparse matrices": lambda x, y: (*cut(csr_matrix(x)), *cut(y)),
}


def cut(a: Any) -> list[Any]:
    """Return the training, the validation and the test part."""
    return [a[:FIRST], a[FIRST:SECOND], a[SECOND:]]


@pytest.mark.filterwarnings("ignore::danlu.errors.DataNotice")
@pytest.mark.parametrize("source", THREE.values(), ids=THREE.keys())
def test_the_middle_one_of_three_is_the_validation_part(source: Callable[..., Any]) -> None:
    data = load(source(X, Y))
    assert data.parts["valid"].tolist() == list(range(FIRST, SECOND))
    assert data.parts["test"].tolist() == list(range(SECOND, N))
    assert data.y.tolist() == Y.tolist()


@pytest.mark.filterwarnings("ignore::danlu.errors.DataNotice")
def test_a_loader_gives_the_examples_that_it_would_draw() -> None:
    halves = [SubsetRandomSampler(range(LATE)), SubsetRandomSampler(range(LATE, N))]
    data = load(tuple(DataLoader(TENSORS, 8, sampler=half) for half in halves))
    assert data.size("test") == N - LATE and torch.equal(data.x, torch.tensor(X))
    drawn = WeightedRandomSampler([1.0] * N, N)
    assert "by its own rule" in refused(DataLoader(TENSORS, 8, sampler=drawn))
    assert "collate_fn of its own" in refused(DataLoader(TENSORS, 8, collate_fn=lambda rows: rows))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (TensorDataset(*TENSORS.tensors, torch.rand(N)), "which is the target is not clear"),
        (((X[:, 0], X[:, 1]), (Y, Y)), "each example needs one target"),
        ({"train": (X, Y), "dev": (X, Y), "eval": (X, Y)}, "of which two name one part"),
        ([{"a": X[k], "label": 1, "coarse_label": 0} for k in range(N)], "may each be the target"),
        (
            [{"a": X[k], "label": 1} if k else {"a": X[k]} for k in range(N)][::-1],
            "has the fields a",
        ),
        ((X, [[0]] * 9 + [[0, 1]] * (N - 9)), "several shapes"),
        ((None, Y), "x is a NoneType"),
        ({"train": (X, Y), "test": (X[:, :2], Y)}, "the parts have the shapes"),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(source: Any, sentence: str) -> None:
    assert sentence in refused(source)


@pytest.mark.filterwarnings("ignore::danlu.errors.DataNotice")
def test_columns_of_parts_are_found_by_name_whatever_their_type() -> None:
    parts = {"train": pd.DataFrame(X[:LATE]), "test": pd.DataFrame(X[LATE:], columns=list("012"))}
    targets = {"train": Y[:LATE], "test": Y[LATE:]}
    data = load({part: frame.assign(target=targets[part]) for part, frame in parts.items()})
    assert data.schema.input_shape == (3,) and not data.missing


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


def test_a_notice_names_the_option_on_the_command_line_and_in_python() -> None:
    with pytest.warns(UserWarning, match=r"--task regression \(task='regression'\) takes them"):
        load((X, np.arange(N) % 3 + 5))
