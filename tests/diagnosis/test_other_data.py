"""Rules hold on data that they were not made on: overlapping classes, hard pictures, text."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification, make_friedman1
from sklearn.kernel_ridge import KernelRidge

from danlu import Data, Recipe, fit, load
from danlu.diagnosis.cross_fitting import contradiction, folds, kernels
from danlu.diagnosis.data_evidence import DataEvidence
from danlu.diagnosis.diagnosing import HEALTHY
from danlu.diagnosis.shift import shift

DENSE = Recipe(
    model={"name": "dense", "hidden": (64, 32)},
    optimizer={"name": "adam", "lr": 0.003},
    batch_size=32,
    epochs=20,
)
PLAIN_STEPS = ["optimizer=momentum", "optimizer.lr=0.02", "batch_size=32", "epochs=12"]


def of_classes(
    classes: int, seed: int, n: int = 2000, apart: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters that overlap; every label is right."""
    x, y = make_classification(
        n, 20, n_informative=10, n_classes=classes, flip_y=0, class_sep=apart, random_state=seed
    )
    return x.astype(np.float32), y


def relabelled(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Labels of which a share is another, drawn evenly."""
    rng = np.random.default_rng(seed)
    other = (y + rng.integers(1, y.max() + 1, len(y))) % (y.max() + 1)
    return np.where(rng.random(len(y)) < share, other, y)


def causes(recipe: Recipe, data: Data, path: Path) -> list[str]:
    return [finding.cause for finding in fit(recipe, data, out=path).diagnose(data).findings]


@pytest.mark.parametrize("classes", [2, 4, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_classes_that_overlap_are_not_wrong_labels(classes: int, seed: int, tmp_path: Path) -> None:
    x, y = of_classes(classes, seed)
    assert causes(DENSE, load((x, y)), tmp_path / "right") == [HEALTHY]
    if classes == 2:  # more is asked for
        x, y = of_classes(classes, seed, 4000, apart=3.0)
    noisy = load((x, relabelled(y, 0.3, seed)))
    assert causes(DENSE, noisy, tmp_path / "wrong")[0] == "label_noise"


def weak_signal(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Right labels of which the inputs say little."""
    x = rng.normal(size=(1500, 8)).astype(np.float32)
    if kind == "logistic":
        return x, (rng.random(1500) < 1 / (1 + np.exp(-0.5 * x[:, 0]))).astype(int)
    if kind == "softmax":
        z = np.exp(0.5 * x[:, :4])
        return x, ((z / z.sum(1, keepdims=True)).cumsum(1) > rng.random(1500)[:, None]).argmax(1)
    return x, rng.integers(0, 3, 1500)


@pytest.mark.parametrize("kind", ["logistic", "softmax", "coins"])
def test_what_nobody_can_know_is_not_wrong_labels(kind: str, tmp_path: Path) -> None:
    recipe = DENSE.with_(["epochs=6", "model.hidden=[16]"])
    for seed in range(4):
        x, y = weak_signal(kind, np.random.default_rng(seed))
        assert "label_noise" not in causes(recipe, load((x, y)), tmp_path / str(seed))


def test_shuffled_labels_of_which_one_is_common_are_not_an_imbalance(tmp_path: Path) -> None:
    x, y = of_classes(2, 0, 3000)
    rng = np.random.default_rng(0)
    keep = (y == 0) | (rng.random(len(y)) < 0.12)
    x, y = x[keep], rng.permutation(y[keep])
    found = causes(DENSE, load((x, y)), tmp_path / "run")
    assert found[0] in ("shuffled_labels", "nothing_to_learn")


def test_two_classes_of_which_two_in_five_labels_are_wrong_are_not_nothing(tmp_path: Path) -> None:
    """Held-out labels are hardly better than chance; those of training say more."""
    x, y = of_classes(2, 3, 3000)
    found = causes(DENSE, load((x, relabelled(y, 0.4, 3))), tmp_path / "run")
    assert not {"shuffled_labels", "nothing_to_learn", "nothing_learnt"} & set(found)


@pytest.mark.data
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_hard_pictures_are_not_wrong_labels(mode: str) -> None:
    data = load(Path(os.environ["DANLU_DATA"]) / "cifar10", limit=2000, mode=mode)
    clean = DataEvidence(data).contradiction
    assert clean.rank < 0.4
    y = data.y.clone()
    rows = data.parts["train"]
    y[rows] = torch.from_numpy(relabelled(y[rows].numpy(), 0.4, 0))
    noisy = DataEvidence(replace(data, y=y)).contradiction
    assert noisy.rank > 0.4
    assert noisy.share > clean.share + 0.2


def test_models_are_kernel_ridge_regression_on_the_other_folds() -> None:
    """scikit-learn's, with the penalty in its units."""
    x, y = of_classes(3, 0, 120)
    evidence = DataEvidence(load((x, y)))
    part = evidence.train
    n, fold_of = len(part.y), folds(len(part.y))
    apart = ((part.x[:, None] - part.x) ** 2).sum(2)
    targets = np.eye(3)[part.y.astype(int)]
    middle = targets.mean(0)
    expected = np.empty((n, 3))
    for fold in range(5):
        own = fold_of == fold
        model = KernelRidge(kernel="rbf", gamma=1 / np.median(apart), alpha=1e-3 * (~own).sum())
        expected[own] = middle + model.fit(part.x[~own], (targets - middle)[~own]).predict(
            part.x[own]
        )
    np.testing.assert_allclose(evidence.out_of_fold, expected, atol=1e-6)


def test_contradictions_count_what_models_are_surest_of() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 2000)
    sureness = rng.random(2000)
    scores = np.eye(5)[labels] * sureness[:, None] + 1e-3 * rng.random((2000, 5))
    # The least sure half is guessed.
    guessed = sureness < np.median(sureness)
    scores[guessed] = 1e-3 * rng.random((guessed.sum(), 5))
    plain = contradiction(scores, labels)
    assert (plain.share, plain.examples, plain.of_half) == (0.0, 200, 0.0)
    assert plain.accuracy == pytest.approx(0.5 + 0.5 / 5, abs=0.03)
    noisy = contradiction(scores, relabelled(labels, 0.3, 1))
    assert noisy.share == pytest.approx(0.3, abs=0.1)
    assert noisy.rank == pytest.approx(0.5, abs=0.1)


def test_kernels_are_of_size_1_and_as_wide_as_different_examples_are_apart() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    linear, gaussian = kernels(x)
    np.testing.assert_allclose(linear, x @ x.T / (125 / 3))
    assert gaussian[0, 1] == pytest.approx(np.exp(-1))
    # Most pairs are of equal examples, as in tables of a few categories.
    equal = np.repeat(x[:2], [9, 1], axis=0)
    assert kernels(equal)[1][0, 9] == pytest.approx(np.exp(-1))


def test_a_network_of_one_unit_is_too_small_for_numbers(tmp_path: Path) -> None:
    """Neighbours do hardly better than it does; kernel models do."""
    x, y = make_friedman1(1500, noise=1.0, random_state=0)
    data = load((x.astype(np.float32), y))
    recipe = DENSE.with_(["epochs=30", "model.hidden=[64,64]"])
    small = causes(recipe.with_(["model.hidden=[1]"]), data, tmp_path / "one")
    assert small[0] == "model_too_small"
    assert causes(recipe, data, tmp_path / "enough") == [HEALTHY]


def test_a_rate_that_spoils_the_test_part_is_not_a_shift(tmp_path: Path) -> None:
    x, y = make_friedman1(1500, noise=1.0, random_state=0)
    recipe = DENSE.with_(["optimizer.lr=0.5", "model.hidden=[64,64]", "epochs=30"])
    assert causes(recipe, load((x.astype(np.float32), y)), tmp_path / "run")[0] == "lr_too_high"


def clusters() -> tuple[np.ndarray, np.ndarray]:
    x, y = make_classification(2000, 20, n_informative=10, n_classes=4, random_state=0)
    return x.astype(np.float32), y


def test_units_that_die_on_the_way_through_many_layers_are_its_depth(tmp_path: Path) -> None:
    """Signals do not fade at the start."""
    hidden = f"model.hidden=[{','.join(['12'] * 40)}]"
    found = causes(DENSE.with_([hidden, "model.dropout=0.1"]), load(clusters()), tmp_path / "run")
    assert found[0] == "too_deep"


def test_rare_classes_are_not_taken_for_shuffled_labels(tmp_path: Path) -> None:
    x, y = clusters()
    keep = (y == 0) | (np.random.default_rng(0).random(len(y)) < 0.02)
    found = causes(DENSE.with_(["model.dropout=0.1"]), load((x[keep], y[keep])), tmp_path / "run")
    assert found[0] == "class_imbalance"


@pytest.mark.data
def test_a_loss_that_rises_a_little_while_accuracy_stays_is_not_overfitting(tmp_path: Path) -> None:
    data = load(Path(os.environ["DANLU_DATA"]) / "fashion-mnist-3600")
    for seed in (0, 7):
        recipe = DENSE.with_([*PLAIN_STEPS, "model.hidden=[128,64]", f"seed={seed}"])
        assert causes(recipe, data, tmp_path / str(seed)) == [HEALTHY]


@pytest.mark.data
def test_a_penalty_is_named_where_it_has_taken_all_weights(tmp_path: Path) -> None:
    data = load(Path(os.environ["DANLU_DATA"]) / "fashion-mnist-3600")
    recipe = DENSE.with_([*PLAIN_STEPS, "penalty.l2=5000", "model.hidden=[128,64]"])
    assert causes(recipe, data, tmp_path / "run")[0] == "l2_too_strong"


@pytest.mark.data
def test_a_rate_is_named_where_its_first_step_killed_the_network(tmp_path: Path) -> None:
    data = load(Path(os.environ["DANLU_DATA"]) / "cifar10", limit=1000)
    recipe = Recipe(model="cnn").with_(["optimizer=sgd", "optimizer.lr=3", "epochs=3"])
    assert causes(recipe, data, tmp_path / "run")[0] == "lr_too_high"


@pytest.mark.data
def test_of_text_every_token_counts_as_an_example(tmp_path: Path) -> None:
    text = Path(os.environ["DANLU_DATA"]) / "text" / "timemachine.txt"
    recipe = Recipe(model={"name": "gru", "hidden": (32,), "embedding": 16})
    hardly = recipe.with_(["optimizer.lr=5e-4", "batch_size=16", "epochs=1"])
    found = causes(hardly, load(text, limit=300), tmp_path / "run")
    assert found[0] == "too_few_epochs"


@pytest.mark.data
def test_words_that_only_the_test_part_has_are_no_shift() -> None:
    """The vocabulary is that of the training part, so that only others can lack a word."""
    data = load(Path(os.environ["DANLU_DATA"]) / "resume-ner", limit=500)
    found = shift(data)
    assert found is not None
    assert "'<unk>'" not in found.features


def test_a_fall_by_chance_is_not_the_middle_of_learning(tmp_path: Path) -> None:
    """Answers that no network can know: 300 of them fall and rise by a few percent an epoch."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1500, 6)).astype(np.float32)
    chance = 1 / (1 + np.exp(-1.2 * (x[:, 0] - x[:, 1] * x[:, 2])))
    data = load((x, (rng.random(1500) < chance).astype(int)))
    recipe = DENSE.with_(["model.hidden=[16]", "optimizer.lr=0.005", "batch_size=8", "epochs=15"])
    for seed in range(5):
        found = causes(recipe.with_(seed=seed), data, tmp_path / str(seed))
        assert "too_few_epochs" not in found


@pytest.mark.data
def test_pictures_that_are_turned_round_are_told_from_those_that_are_not(tmp_path: Path) -> None:
    data = load(Path(os.environ["DANLU_DATA"]) / "mnist", limit=8000)
    recipe = Recipe(model={"name": "dense", "hidden": (128,)}).with_(
        ["optimizer=sgd", "optimizer.lr=0.1", "epochs=10", "batch_size=64"]
    )
    turned = causes(recipe.with_(["augment.rotate=180"]), data, tmp_path / "turned")
    assert turned[0] == "augment_wrong"
    useful = recipe.with_(["augment.rotate=15", "augment.shift=2"])
    assert causes(useful, data, tmp_path / "useful") == [HEALTHY]
