"""Former names of fields, and other libraries' names of values, go on working."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from folders import reseal

from danlu import Recipe, fit, load
from danlu.errors import RecipeError
from danlu.models import MODELS
from danlu.recipe import aliases, fields
from danlu.study import grid


@pytest.mark.parametrize(("old", "new"), aliases.FIELDS.items())
def test_a_former_field_is_read_as_the_new_one_with_a_warning(old: str, new: str) -> None:
    values: dict[str, Any] = {
        "model.carry": True,
        "model.factor": 2,
        "init.from_run": "weights.safetensors",
        "augment.unknown": 0.1,
    }
    model = {"model.carry": "lstm", "augment.unknown": "lstm"}.get(old, "dense")
    want = Recipe(model=model).with_(**{new: values[old]})
    with pytest.warns(DeprecationWarning, match=f"`{old}` is now called `{new}`"):
        given = str(values[old]).lower()
        assert Recipe(model=model).with_([f"{old}={given}"]) == want
    section, _, name = old.partition(".")
    named = {"name": model} if section == "model" else {}
    sections: dict[str, Any] = {"model": model, section: {**named, name: values[old]}}
    with pytest.warns(DeprecationWarning):
        assert Recipe(**sections) == want
    assert grid.canonical(old) == new
    assert new in fields() and old not in fields()


def test_a_recipe_with_former_names_is_read(tmp_path: Path) -> None:
    text = '[model]\nname = "gru"\ncell = ["gru-before"]\ncarry = true\nhidden = [8]\n'
    with pytest.warns(DeprecationWarning):
        recipe = Recipe.from_toml(text)
    assert recipe.model.cell == ("gru",)
    assert recipe.model.reset_after is False
    assert recipe.model.stateful is True


def test_a_mix_of_gru_and_gru_before_is_refused() -> None:
    with pytest.raises(RecipeError, match="mixes gru and gru-before"):
        Recipe(model={"name": "lstm", "cell": ["gru", "gru-before"], "hidden": [4, 4]})


@pytest.mark.parametrize(
    ("cell", "network"),
    [("gru-before", "gru"), ("gru-reset-before", "gru"), ("lstm-peephole", "lstm")],
)
def test_the_advice_for_a_cell_given_as_a_network_is_a_recipe(cell: str, network: str) -> None:
    with pytest.raises(RecipeError, match="must be a network, and this is a cell") as refused:
        Recipe(model=cell)
    way_out = str(refused.value).partition("; try ")[2]
    model = Recipe().with_(way_out.split()).model
    assert model.name == network
    assert model.reset_after is (network != "gru")


@pytest.mark.parametrize(
    ("path", "given", "meant"),
    [
        ("init", "kaiming", "he"),
        ("init", "Kaiming-Normal", "he"),
        ("init", "xavier", "xavier"),
        ("init", "glorot", "glorot"),
        ("init", "xavier_normal", "glorot"),
        ("model", "resnet-18", "resnet18"),
        ("model", "ResNet18", "resnet18"),
        ("model", "vgg_16", "vgg16"),
        ("model", "VGG-16", "vgg16"),
        ("optimizer", "AdamW", "adamw"),
        ("optimizer", "nag", "nesterov"),
        ("loss", "cross_entropy", "cross-entropy"),
        ("schedule", "OneCycle", "one-cycle"),
        ("model.activation", "LeakyReLU", "leaky-relu"),
        ("normalize", "standardize", "zscore"),
    ],
)
def test_other_spellings_and_libraries_names_are_understood(
    path: str, given: str, meant: str
) -> None:
    recipe = Recipe().with_([f"{path}={given}"])
    assert recipe == Recipe().with_([f"{path}={meant}"])


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_network_is_found_without_hyphens_and_in_capitals(name: str) -> None:
    for spelling in (name.upper(), name.replace("-", "_"), name.replace("-", "")):
        assert Recipe(model=spelling).model.name == name


def test_a_run_with_former_names_still_works(tmp_path: Path) -> None:
    """Its recipe has the old names of fields."""
    run = fit(Recipe(epochs=1, model={"phm_n": 2}), load("digits"), out=tmp_path / "run")
    file = run.path / "recipe.toml"
    file.write_text(file.read_text().replace("phm_n = 2", "factor = 2"))
    reseal(run.path)
    from danlu import Run

    with pytest.warns(DeprecationWarning):
        assert Run(run.path).evaluate().loss == pytest.approx(run.result["test_loss"], rel=1e-6)


def test_other_libraries_names_of_fields_are_answered_with_ours(tmp_path: Path) -> None:
    from danlu.errors import RecipeError
    from danlu.recipe import aliases, fields

    assert set(aliases.OTHERS.values()) <= set(fields())
    for given, meant in (
        ("learning_rate=0.1", "optimizer.lr"),
        ("optimizer.learning_rate=0.1", "optimizer.lr"),
        ("num_epochs=3", "epochs"),
        ("hidden_layer_sizes=8", "model.hidden"),
    ):
        with pytest.raises(RecipeError, match=f"did you mean `{meant}`"):
            Recipe().with_([given])
    (tmp_path / "r.toml").write_text("[optimizer]\nlearning_rate = 0.1\n")
    with pytest.raises(RecipeError, match=r"did you mean `optimizer\.lr`"):
        Recipe.read(str(tmp_path / "r.toml"))


def test_files_with_a_byte_order_mark_and_endless_names_are_read_or_refused(tmp_path: Path) -> None:
    from danlu import Run, Study
    from danlu.errors import DanluError

    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbfepochs = 3\n")
    assert Recipe.read(str(tmp_path / "bom.toml")).epochs == 3
    for opened in (Recipe.read, Run, Study):
        with pytest.raises(DanluError):
            opened("a" * 300)  # type: ignore[operator]
