"""Populations of recurrent networks: each member against its recipe alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cell_formulas import cell_fields
from populations import close, equal_alone
from sequences import EVERY, FIELDS, READERS, SMALL, data_of

from danlu import Data, Recipe, fit
from danlu.nn.cells import CELLS as KINDS
from danlu.train import train

MEMBERS: list[dict[str, Any]] = [
    {"optimizer": {"name": "adam", "lr": 0.01}},
    {"optimizer": {"name": "adam", "lr": 0.003}, "seed": 1, "clip": {"norm": 0.1}},
    {
        "optimizer": {"name": "adam", "lr": 0.01},
        "data_seed": 5,
        "penalty": {"l2": 1.0},
        "augment": {"word_dropout": 0.2},
    },
    {"optimizer": {"name": "adam", "lr": 0.02}, "seed": 2, "loss": {"label_smoothing": 0.1}},
]


CELLS: list[dict[str, Any]] = [
    *[{"name": k} for k in READERS],
    {"name": "lstm", **cell_fields("lstm-peephole", "gru-reset-before")},
    {"name": "rnn", "cell": ("rnn-relu", "rnn")},
    {"name": "gru", "embedding": 0},
    {"name": "gru", "crf": True},
]


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("model", CELLS, ids=lambda m: "-".join(map(str, m.values())))
def test_a_member_equals_its_recipe_alone(
    kind: str,
    model: dict[str, Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Deep, mixed, both ways or carrying their state, with dropout that differs by member."""
    if "crf" in model and kind != "tagged":
        pytest.skip("a CRF tells tags")
    data = data_of(kind, request)
    section = {
        **SMALL,
        **model,
        "bidirectional": kind != "running",
        "stateful": kind == "running",
        "attention": kind == "paired",
    }
    recipes = [
        Recipe(
            model={**section, "dropout": p},
            **FIELDS,
            **{k: v for k, v in m.items() if k != "loss" or "crf" not in model},
        )
        for m, p in zip(MEMBERS, (0.0, 0.3, 0.5, 0.3), strict=True)
    ]
    study = train(recipes, data, out=tmp_path / "study")
    assert [p["population_size"] for p in study.info["plans"]] == [4]
    equal_alone(study, recipes, data, tmp_path)


@pytest.mark.parametrize("kind", EVERY)
def test_in_float32_pytorch_s_kernels_give_members_and_single_runs_the_same(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = data_of(kind, request)
    section = {
        "name": "lstm",
        **SMALL,
        "bidirectional": kind in ("tagged", "labelled"),
        "stateful": kind == "running",
    }
    recipes = [Recipe(model=section, **{**FIELDS, "dtype": "float32"}, seed=k) for k in range(3)]
    study = train(recipes, data, out=tmp_path / "study")
    for k, recipe in enumerate(recipes):
        close(study.weights(k), fit(recipe, data, out=tmp_path / str(k)).model().state_dict(), 2e-5)


@pytest.mark.parametrize("sample", [{"share": 0.5}, {"bootstrap": True}])
def test_samples_of_sentences_equal_their_recipes_alone(
    sample: dict[str, Any], tagged: Data, tmp_path: Path
) -> None:
    model = {"name": "gru", **SMALL}
    recipes = [Recipe(model=model, **FIELDS, sample={**sample, "seed": k}) for k in range(3)]
    equal_alone(train(recipes, tagged, out=tmp_path / "study"), recipes, tagged, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["running", "paired", "tagged"])
@pytest.mark.parametrize("cell", sorted(KINDS))
def test_bfloat16_alone_and_together_is_near_float32(
    cell: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Not far from float32, alone and together, whichever kernel serves a cell."""
    data = data_of(kind, request)
    section = {
        "name": "lstm",
        **SMALL,
        **cell_fields(cell),
        "attention": kind == "paired",
        "crf": kind == "tagged",
    }
    recipe = Recipe(model=section, optimizer={"name": "sgd", "lr": 0.1}, batch_size=7, epochs=2)
    full, mixed = (
        fit(recipe.with_(dtype=t), data, out=tmp_path / t).result["train_loss"]
        for t in ("float32", "bf16-mixed")
    )
    assert mixed == pytest.approx(full, rel=0.02) and mixed != full
    study = train(
        [recipe.with_(dtype="bf16-mixed", seed=k) for k in range(2)], data, out=tmp_path / "study"
    )
    assert study.results[0]["train_loss"] == pytest.approx(full, rel=0.02)
