"""What tables and labels show: leaks of few values, copies of texts, recoded parts, numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from danlu import Data, Recipe, fit, load
from danlu.diagnosis.data_evidence import DataEvidence
from danlu.diagnosis.diagnosing import HEALTHY
from danlu.diagnosis.leaks import telling_column, told_by_values

DENSE = Recipe(
    model={"name": "dense", "hidden": (32,)},
    optimizer={"name": "adam", "lr": 0.003},
    batch_size=32,
    epochs=12,
)
GRU = Recipe(
    model={"name": "gru", "hidden": (16,), "embedding": 8},
    optimizer={"name": "adam", "lr": 0.01},
    batch_size=16,
    epochs=8,
)
RNG = np.random.default_rng(0)


def causes(recipe: Recipe, data: Data, path: Path) -> list[str]:
    return [finding.cause for finding in fit(recipe, data, out=path).diagnose(data).findings]


def table(n: int = 600) -> pd.DataFrame:
    """Two classes that two numbers and a category tell, not too well."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["age", "calls", "days"])
    frame.insert(0, "plan", rng.choice(["basic", "plus", "gold"], n))
    risk = frame["age"] - frame["days"] + 0.8 * rng.normal(size=n)
    frame["churned"] = np.where(risk > 0, "yes", "no")
    return frame


@pytest.mark.parametrize(
    ("column", "leak"),
    [
        ("status", lambda y: np.where(y == "yes", "closed", "open")),
        ("code", lambda y: np.where(y == "yes", 7, 9)),
        ("fee", lambda y: (y == "yes") + 0.001 * RNG.normal(size=len(y))),
    ],
)
def test_a_leak_is_named_by_its_column(column: str, leak: object, tmp_path: Path) -> None:
    frame = table()
    frame.insert(2, column, leak(frame["churned"].to_numpy()))  # type: ignore[operator]
    data = load(frame, target="churned")
    finding = fit(DENSE, data, out=tmp_path / "run").diagnose(data).findings[0]
    assert finding.cause == "target_leak"
    assert finding.figures["column"] == column


def test_a_table_without_a_leak_has_none(tmp_path: Path) -> None:
    data = load(table(), target="churned")
    assert causes(DENSE, data, tmp_path / "run") == [HEALTHY]


def digits_with_mark(mark: Callable[[Tensor, Tensor], None]) -> Data:
    """Pictures of digits [n, 1, 8, 8] into which something is drawn, by their classes."""
    digits = load("digits")
    x = digits.x.clone()
    mark(x, digits.y)
    return load((x.numpy(), digits.y.numpy()))


def test_a_mark_at_the_edge_of_pictures_is_a_leak(tmp_path: Path) -> None:
    def corner(x: Tensor, y: Tensor) -> None:
        x[:, 0, :2, 6:] = y[:, None, None].float()

    data = digits_with_mark(corner)
    finding = fit(DENSE, data, out=tmp_path / "run").diagnose(data).findings[0]
    assert finding.cause == "target_leak"
    assert finding.figures["column"] == "the pixel (0, 6)"
    assert finding.figures["tells"] == 1.0


def test_pictures_without_a_mark_have_no_leak() -> None:
    def brighter(x: Tensor, y: Tensor) -> None:
        """Whole pictures are: what they show, and no mark."""
        x += 20 * y[:, None, None, None]

    telling = DataEvidence(load("digits")).telling
    assert telling is not None
    assert telling.score < 0.4
    telling = DataEvidence(digits_with_mark(brighter)).telling
    assert telling is not None
    assert telling.next_score > 0.95


def texts(marks: Mapping[str, str]) -> Data:
    """Texts of three topics; each has eight words of its own, and the rest are common."""
    rng = np.random.default_rng(0)
    labels = rng.choice(["sport", "trade", "music"], 600)
    found = []
    for label in labels:
        own = rng.choice([f"{label}{i}" for i in range(8)], 2)
        words = [*own, *rng.choice([f"w{i}" for i in range(60)], 8)]
        found.append(" ".join([marks.get(label, ""), *rng.permutation(words)]))
    return load((found, labels.tolist()), tokens="words")


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ({"sport": "src1", "trade": "src2", "music": "src3"}, {"src1", "src2", "src3"}),
        ({"sport": "see p1", "trade": "see p2"}, {"p1", "p2"}),
        ({"sport": "@ x1 y1", "trade": "@ x2 y2", "music": "@ x3 y3"}, {"x1", "x2", "x3"}),
    ],
)
def test_a_word_for_each_class_is_a_leak(
    marks: dict[str, str], words: set[str], tmp_path: Path
) -> None:
    data = texts(marks)
    finding = fit(GRU, data, out=tmp_path / "run").diagnose(data).findings[0]
    assert finding.cause == "target_leak"
    assert words <= set(str(finding.figures["column"]).replace("'", "").split(", "))


def test_words_of_topics_are_no_leak(tmp_path: Path) -> None:
    assert "target_leak" not in causes(GRU, texts({}), tmp_path / "run")
    telling = DataEvidence(texts({})).telling
    assert telling is not None
    assert telling.score < 0.8


def test_the_word_that_is_asked_for_is_no_leak() -> None:
    """A memory task: the first word is the class, and nothing else tells anything."""
    rng = np.random.default_rng(0)
    first = rng.choice(["alpha", "beta", "gamma"], 400)
    rest = [" ".join(rng.choice([f"w{i}" for i in range(20)], 10)) for _ in first]
    found = [f"{word} {words}" for word, words in zip(first, rest, strict=True)]
    assert DataEvidence(load((found, first.tolist()), tokens="words")).telling is None


def test_features_are_named_whatever_comes_before() -> None:
    data = load(table(), target="churned")
    assert data.schema.feature_names[3:] == ["age", "calls", "days"]
    assert data.schema.column_of_features[:4] == ["plan", "plan", "plan", "age"]
    frame = table()
    frame.loc[::100, "days"] = 1e4  # in whatever part
    column, *_ = DataEvidence(load(frame, target="churned")).far_features()
    assert column == "days"


def test_the_order_of_examples_tells_nothing() -> None:
    """Stored class by class, and nearly all numbers of a column are equal."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random(2000) < 0.02, rng.normal(size=2000), 0)[:, None]
    assert telling_column(x, np.repeat([0.0, 1.0, 2.0, 3.0], 500), ["x"], False).score < 0.4
    assert telling_column(x, np.arange(2000.0), ["x"], True).score < 0.1


def test_values_tell_no_more_than_of_examples_not_seen() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1000).astype(float)
    assert told_by_values(rng.integers(0, 400, 1000), y, False) < 0.6
    assert told_by_values(y.astype(int), y, False) == 1.0
    assert told_by_values(rng.integers(0, 400, 1000), rng.normal(size=1000), True) < 0.0
    assert told_by_values(y.astype(int), y + 0.01, True) == pytest.approx(1.0)


def test_texts_that_come_again_are_copies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(rng.choice(words, 8)) for _ in range(200)] * 2
    labels = ["a" if "w1" in text.split() or "w2" in text.split() else "b" for text in texts]
    data = load((texts, labels))
    recipe = Recipe(model={"name": "gru", "hidden": (16,), "embedding": 8}, epochs=3)
    assert "leak_duplicates" in causes(recipe, data, tmp_path / "run")


def parts_of_digits(recode: object, *parts: str) -> Data:
    digits = load("digits")
    by_part = {}
    for part in ("train", "valid", "test"):
        x, y = digits.part(part)
        y = recode(y) if part in parts else y  # type: ignore[operator]
        by_part[part] = (x.flatten(1).numpy().astype(np.float32), y.numpy())
    return load(by_part)


@pytest.mark.parametrize("parts", [("valid",), ("valid", "test"), ("test",)])
def test_recoded_parts_are_not_over_fitting(parts: tuple[str, ...], tmp_path: Path) -> None:
    data = parts_of_digits(lambda y: (y + 3) % 10, *parts)
    assert causes(DENSE, data, tmp_path / "run")[0] == "label_mapping_mismatch"


def test_two_classes_that_changed_places_are_seen(tmp_path: Path) -> None:
    data = parts_of_digits(lambda y: torch.where(y == 4, 9, torch.where(y == 9, 4, y)), "test")
    assert causes(DENSE, data, tmp_path / "run")[0] == "label_mapping_mismatch"


def test_numbers_learnt_as_classes_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 4)).astype(np.float32)
    y = np.clip(np.round(15 + 5 * x[:, 0] + 3 * x[:, 1] + rng.normal(size=1500)), 0, 30)
    as_classes = load((x, y.astype(int)), task="classification")
    assert causes(DENSE, as_classes, tmp_path / "classes")[0] == "wrong_task"


def test_a_linear_network_on_a_linear_target_lacks_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 5)).astype(np.float32)
    linear = DENSE.with_(["model.activation=identity", "epochs=30"])
    y = x @ np.arange(1.0, 6.0) + 0.3 * rng.normal(size=800)
    assert causes(linear, load((x, y.astype(np.float32))), tmp_path / "linear") == [HEALTHY]
    y = x[:, 0] * x[:, 1] + 0.1 * rng.normal(size=800)
    found = causes(linear, load((x, y.astype(np.float32))), tmp_path / "product")
    assert found[0] == "missing_nonlinearity"


def test_a_gulf_between_parts_is_not_healthy(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 20)).astype(np.float32)
    y = x[:, 0] - x[:, 1] + 0.5 * rng.normal(size=60)
    recipe = DENSE.with_(["epochs=150", "batch_size=8"])
    found = causes(recipe, load((x, y.astype(np.float32))), tmp_path / "run")
    assert found[0] in ("too_little_data", "overtrained")


def test_a_class_that_only_the_test_part_has_is_no_imbalance(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 4)).astype(np.float32)
    y = np.where(x[:, 0] + x[:, 1] > 0, "a", "b")
    x[800:] += 4
    y[800:] = "c"
    frame = pd.DataFrame(x, columns=list("pqrs")).assign(kind=y)
    for part, rows in (
        ("train", slice(600)),
        ("valid", slice(600, 700)),
        ("test", slice(700, 900)),
    ):
        frame[rows].to_csv(tmp_path / f"{part}.csv", index=False)
    data = load(str(tmp_path), target="kind")
    found = fit(DENSE, data, out=tmp_path / "run").diagnose(data).findings
    assert found[0].cause == "train_test_shift"
    assert "No training example is of 'c'" in found[0].why()
    assert "class_imbalance" not in [finding.cause for finding in found]


def test_more_columns_than_examples_are_learnt_by_heart(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(160, 400)).astype(np.float32)
    y = (x[:, :3].sum(1) > 0).astype(int)
    recipe = DENSE.with_(["epochs=40"])
    assert causes(recipe, load((x, y)), tmp_path / "run")[0] == "too_little_data"


def test_a_network_of_one_layer_is_told_that_another_helps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(1200, 2)).astype(np.float32)
    y = (np.hypot(x[:, 0], x[:, 1]) > 0.7).astype(int)
    recipe = DENSE.with_(["model=softmax", "epochs=20"])
    (finding, *_) = fit(recipe, load((x, y)), out=tmp_path / "run").diagnose(load((x, y))).findings
    assert finding.cause == "missing_nonlinearity"
    assert [str(edit) for p in finding.prescriptions for edit in p.edits] == ["model=dense"]


@pytest.mark.parametrize("channels", [1, 3])
def test_marks_at_another_place_for_each_class_are_named(channels: int, tmp_path: Path) -> None:
    """In the last channel of pictures of more than 4,000 numbers, too."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 200, size=(300, channels, 40, 40), dtype=np.uint8)
    y = rng.integers(0, 3, 300)
    x[np.arange(300), -1, 0, 4 * y] = 255
    telling = DataEvidence(load((x, y))).telling
    assert telling is not None
    assert telling.score > 0.97 > telling.next_score
    assert ("of channel 2" in telling.name) == (channels == 3)


def test_ratings_are_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 5)).astype(np.float32)
    rating = np.clip(np.round(3 + x[:, 0] + 0.5 * x[:, 1] + 0.3 * rng.normal(size=800)), 1, 5)
    data = load((x, rating.astype(np.float32)), task="regression")
    assert "wrong_task" not in causes(DENSE, data, tmp_path / "run")
