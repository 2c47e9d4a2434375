"""Runs on text that several tests look at."""

from __future__ import annotations

import itertools

import pytest
from texts import SMALL

from danlu import Recipe, Run, fit, load


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("writer")
    (folder / "lines.txt").write_text(
        "the cat sat.\nthe dog sat.\na cat ran.\n" * 40, encoding="utf-8"
    )
    data = load(str(folder / "lines.txt"), lines=True)
    recipe = Recipe(
        model={"name": "lstm", **SMALL},
        optimizer={"name": "adam", "lr": 0.02},
        epochs=12,
        batch_size=8,
    )
    return fit(recipe, data, out=folder / "run")


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("translator")
    words = ["".join(w) for n in (1, 2, 3) for w in itertools.product("abc", repeat=n)]
    (folder / "pairs.tsv").write_text("\n".join(f"{w}\t{w[::-1]}" for w in words * 6))
    data = load(str(folder / "pairs.tsv"), task="pairs")
    recipe = Recipe(model={"name": "gru", "hidden": (24,), "embedding": 8, "attention": True},
                    optimizer={"name": "adam", "lr": 0.02}, epochs=15, batch_size=16)  # fmt: skip
    return fit(recipe, data, out=folder / "run")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Run:
    texts = [f"number {k} is {'good' if k % 2 else 'dull'}" for k in range(120)]
    data = load((texts, ["up" if k % 2 else "down" for k in range(120)]), tokens="words")
    recipe = Recipe(
        model={"name": "gru", **SMALL},
        optimizer={"name": "adam", "lr": 0.02},
        epochs=8,
        batch_size=16,
    )
    return fit(recipe, data, out=tmp_path_factory.mktemp("reader") / "run")
