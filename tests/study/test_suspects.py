"""Suspected labels: planted ones come first, and confident learning is as published."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from faults.spoiling import say
from PIL import Image

import danlu
from danlu import Data, Recipe, cross_validate, fit, load, suspects
from danlu.errors import DanluError
from danlu.study.confident_learning import confident_classes, suspected


def noisy(share: float, seed: int = 0) -> tuple[Data, np.ndarray]:
    """Return the digits with some labels changed, and which these are."""
    data = load("digits")
    rng = np.random.default_rng(seed)
    is_wrong = rng.random(len(data)) < share
    y = data.y.numpy().copy()
    y[is_wrong] = (y[is_wrong] + rng.integers(1, 10, is_wrong.sum())) % 10
    return replace(data, y=torch.from_numpy(y), reloadable=False), is_wrong


def test_planted_labels_are_found_and_counted(tmp_path: Path) -> None:
    data, is_wrong = noisy(0.1)
    run = fit(Recipe(epochs=15, penalty={"l2": 3}), data, out=tmp_path / "run")
    found = suspects(run, data, out=tmp_path / "folds")
    judged = torch.cat([data.parts["train"], data.parts["valid"]]).numpy()
    planted = is_wrong[judged].sum()
    named = [suspect.example for suspect in found.found]
    right = is_wrong[named]
    assert len(set(named)) == len(named)
    assert right[: planted // 2].mean() > 0.97
    assert right.sum() > 0.75 * planted
    assert {suspect.part for suspect in found.found} == {"train", "valid"}
    first = found.found[0]
    assert first.label == str(int(data.y[first.example])) != first.suggested


def test_confident_learning_equals_the_definition() -> None:
    """Northcutt et al. 2021, Eq. 1, example by example."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.4] * 4, 300)
    labels = np.where(rng.random(300) < 0.6, p.argmax(1), rng.integers(0, 4, 300))
    thresholds = [np.mean([p[i, k] for i in range(300) if labels[i] == k]) for k in range(4)]
    confident = confident_classes(p, labels)
    for i in range(300):
        candidates = [k for k in range(4) if p[i, k] >= thresholds[k]]
        best = max(candidates, key=lambda k: p[i, k]) if candidates else -1
        assert confident[i] == best
        is_suspect = best >= 0 and best != labels[i] and p[i].argmax() != labels[i]
        assert suspected(p, labels)[i] == is_suspect


def test_no_share_of_wrong_labels_is_claimed_where_classes_overlap(tmp_path: Path) -> None:
    """Each label is the class that its point was drawn from."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 800)
    x = (rng.normal(size=(800, 2)) + np.outer(y, [1.5, 0])).astype(np.float32)
    data = load((x, y))
    run = fit(Recipe(epochs=15, model={"hidden": [8]}), data, out=tmp_path / "run")
    said = " ".join(suspects(run, data, out=tmp_path / "folds").sentences())
    assert "where classes overlap, right labels are among them" in said
    assert "wrong" not in said


def test_clean_labels_give_few(tmp_path: Path) -> None:
    run = fit(Recipe(epochs=15), load("digits"), out=tmp_path / "run")
    found = suspects(run, out=tmp_path / "folds")
    assert len(found.found) < 0.02 * found.examined
    assert found.is_trusted


def test_a_cross_validation_is_taken_as_it_is(tmp_path: Path) -> None:
    folds = cross_validate(Recipe(epochs=5), load("digits"), folds=3, out=tmp_path / "folds")
    before = sorted((tmp_path / "folds" / "weights").iterdir())
    with pytest.raises(DanluError, match="must be left out"):
        suspects(folds, folds=4)
    found = suspects(folds)
    assert found.examined == 1438
    again = suspects(tmp_path / "folds")
    assert [s.example for s in again.found] == [s.example for s in found.found]
    assert sorted((tmp_path / "folds" / "weights").iterdir()) == before


def test_pictures_are_named_by_their_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / "p" / name).mkdir(parents=True)
        for k in range(40):
            # Three light pictures lie in the folder of the dark ones.
            shade = 200 if name == "dark" and k < 3 else level
            pixels = rng.normal(shade, 15, (8, 8)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels, "L").save(tmp_path / "p" / name / f"{k:02d}.png")
    (tmp_path / "p" / "dark" / "05.png").write_bytes(b"no picture")
    run = fit(
        Recipe(epochs=30, batch_size=8, model={"hidden": [8]}, penalty={"l2": 1}),
        load(str(tmp_path / "p")),
        out=tmp_path / "run",
    )  # fmt: skip
    found = suspects(run, out=tmp_path / "folds")
    named = {suspect.origin for suspect in found.found}
    assert named
    assert named <= {"dark/00.png", "dark/01.png", "dark/02.png"}


def test_rows_are_counted_with_those_that_were_left_out(tmp_path: Path) -> None:
    lines = ["x,y,label"]
    rng = np.random.default_rng(0)
    for k in range(200):
        x, y = rng.normal(size=2)
        label = "a" if x > 0 else "b"
        lines.append(f"{x:.3f},{y:.3f},{'' if k % 10 == 0 else label}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.warns(danlu.errors.DataNotice, match="without a value"):
        data = load(str(tmp_path / "t.csv"))
    assert data.origin(0) == "row 2"
    assert data.origin(9) == "row 12"


def test_the_command_writes_a_list_and_a_page(tmp_path: Path) -> None:
    say("fit", "dna", "epochs=2", "--limit", "300", "--out", tmp_path / "run")
    said = say("suspects", tmp_path / "run", "--folds", 3, "--out", tmp_path / "folds", "--json")
    assert said.code == 0, said.err
    plain = json.loads(said.out)
    with (tmp_path / "folds" / "suspects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["example"]) for row in rows] == [s["example"] for s in plain["suspects"]]
    assert "suspects.csv" not in said.err
    assert (tmp_path / "folds" / "suspects.html").is_file()
    shown = say("suspects", tmp_path / "folds")
    assert shown.code == 0
    assert "each judged by a network that was not trained on them" in shown.out.replace("\n", " ")


def test_networks_that_know_nothing_name_nobody(tmp_path: Path) -> None:
    run = fit(Recipe(epochs=1, optimizer={"lr": 1e-7}), load("digits"), out=tmp_path / "run")
    found = suspects(run, out=tmp_path / "folds")
    assert not found.is_trusted
    assert "cannot tell a wrong label" in found.sentences()[0]


@pytest.mark.parametrize("source", ["diabetes", "names", "prose"])
def test_only_classes_can_be_suspected(source: str, tmp_path: Path) -> None:
    recipe = Recipe.read("tagging") if source == "names" else Recipe(epochs=1)
    if source == "prose":
        recipe = Recipe.read("language").with_(epochs=1)
    run = fit(recipe.with_(epochs=1), load(source, limit=100), out=tmp_path / "run")
    with pytest.raises(DanluError, match="suspects are found among labels"):
        suspects(run)


def test_rows_of_several_files_are_counted_in_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, n in (("train", 60), ("valid", 30), ("test", 30)):
        rows = [f"{x:.3f},{'ab'[int(x > 0)]}" for x in rng.normal(size=n)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["x,label", *rows]))
    data = load(str(tmp_path))
    assert [data.origin(i) for i in (0, 59, 60, 90)] == [
        "train, row 1",
        "train, row 60",
        "valid, row 1",
        "test, row 1",
    ]
