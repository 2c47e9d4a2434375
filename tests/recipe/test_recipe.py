from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.errors import RecipeError
from danlu.models import MODELS
from danlu.optim.optimizers import OPTIMIZERS
from danlu.optim.schedules import SCHEDULES
from danlu.recipe import Recipe, fields, presets

recipes = st.builds(
    Recipe,
    model=st.sampled_from(sorted(MODELS)),
    optimizer=st.fixed_dictionaries(
        {"name": st.sampled_from(sorted(OPTIMIZERS)), "lr": st.floats(1e-6, 10)}
    ),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    penalty=st.fixed_dictionaries({"l1": st.floats(0, 1), "l2": st.floats(0, 1)}),
    init=st.sampled_from(["auto", "he", "orthogonal"]),
    batch_size=st.integers(2, 10_000),
    epochs=st.integers(1, 1000),
    seed=st.integers(0, 2**62),
    normalize=st.sampled_from(["none", "zscore", "whiten"]),
)


@settings(max_examples=80)
@given(recipes)
def test_a_recipe_survives_toml(recipe: Recipe) -> None:
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert Recipe(**recipe.to_dict(whole=True)) == recipe
    assert not recipe.diff(Recipe.from_toml(recipe.to_toml()))


@settings(max_examples=150)
@given(st.text(max_size=60))
def test_any_text_is_a_recipe_or_a_sentence(text: str) -> None:
    try:
        Recipe.from_toml(text)
    except RecipeError as e:
        assert e.mistakes
    try:
        Recipe().with_([text])
    except RecipeError as e:
        assert e.mistakes


def said(**given: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        Recipe(**given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"optimizer": {"name": "sgd", "lr": -0.1}},
            "`optimizer.lr` is -0.1, but must be greater than 0; try 0.01",
        ),
        ({"optimizer": "adm"}, "did you mean 'adam'?"),
        ({"model": "dens"}, "did you mean 'dense'?"),
        ({"optimzer": "adam"}, "`optimzer` is not a field of a recipe; did you mean `optimizer`?"),
        ({"lr": 0.1}, "did you mean `optimizer.lr`?"),
        (
            {"optimizer": {"name": "sgd", "momentum": 0.9}},
            "`optimizer.momentum` is not used by 'sgd'; it is used by momentum, nesterov",
        ),
        (
            {"model": {"name": "dense", "channels": (6,)}},
            "`model.channels` is not used by 'dense'; it is used by cnn, cnn-wide",
        ),
        (
            {"model": {"name": "gru", "forget_bias": 2.0}},
            "`model.forget_bias` is not used by gru; it is used by lstm, lstm-peephole",
        ),
        (
            {"init": {"name": "he", "std": 0.1}},
            "`init.std` is not used by 'he'; it is used by normal, uniform",
        ),
        (
            {"init": {"name": "normal", "std": 0.0}},
            "`init.std` is 0.0, but must be greater than 0; try 0.01",
        ),
        ({"init": {"std": 0.1}}, "`init.std` is not used by 'auto'"),
        ({"epochs": 0}, "`epochs` is 0, but must be at least 1; try 10"),
        ({"epochs": 2.5}, "`epochs` is 2.5, but must be a whole number"),
        ({"batch_size": "many"}, "`batch_size` is 'many', but must be a whole number"),
        ({"normalize": "zscor"}, "did you mean 'zscore'?"),
        (
            {"model": {"name": "dense", "dropout": 1.0}},
            "`model.dropout` is 1.0, but must be less than 1; try 0.5",
        ),
        ({"optimizer": {"lr": float("nan")}}, "`optimizer.lr` is nan, but must be a finite number"),
        ({"optimizer": {"lr": [1]}}, "`optimizer.lr` is [1], but must be a number"),
        ({"epochs": "10"}, "`epochs` is '10', but must be a whole number"),
        ({"epochs": True}, "`epochs` is True, but must be a whole number"),
        ({"augment": {"flip": "yes"}}, "`augment.flip` is 'yes', but must be true or false"),
        (
            {"model": {"name": "rnn", "cell": "rnn-relu"}},
            "`model.cell` is 'rnn-relu', but must be a list; try ['rnn-relu']",
        ),
        ({"model": {"hidden": 8}}, "`model.hidden` is 8, but must be a list; try [64,64]"),
        ({"optimizer": 3}, "`optimizer` is 3, but must be a table of names and values"),
        (
            {"schedule": {"warmup": 20}},
            "`schedule.warmup` is 20.0, but must be less than the 10 epochs",
        ),
        (
            {"batch_size": 1, "model": {"name": "dense", "batch_norm": "after"}},
            "`batch_size` is 1, but must be at least 2",
        ),
    ],
)
def test_each_mistake_is_one_sentence(given: dict[str, Any], sentence: str) -> None:
    text = said(**given)
    assert sentence in text
    assert "\n" not in text


def test_all_mistakes_come_at_once() -> None:
    lines = said(optimizer="adm", model="cn", epochs=0, bach_size=3).splitlines()
    assert len(lines) == 4


def test_wrong_types_in_toml_and_broken_toml_are_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_toml("epochs = 'ten'\n[optimizer]\nlr = 'fast'")
    assert len(caught.value.mistakes) == 2
    with pytest.raises(RecipeError, match="is not TOML"):
        Recipe.from_toml("epochs = ")


def test_overrides_change_fields_by_path() -> None:
    r = Recipe().with_(
        [
            "lr=0.5",
            "optimizer=sgd",
            "model.hidden=8,8",
            "epochs=3",
            "model.dropout=.5",
            "schedule=one-cycle",
            "schedule.peak=0.2",
        ]
    )
    assert (r.optimizer.name, r.optimizer.lr, r.optimizer.beta1) == ("sgd", 0.5, None)
    assert (r.model.hidden, r.model.dropout, r.epochs, r.schedule.peak) == ((8, 8), 0.5, 3, 0.2)
    assert Recipe(model="cnn").with_(["model=cnn"]).model.channels == (6, 6)
    assert Recipe().with_(["model.hidden=16"]).model.hidden == (16,)
    assert Recipe().with_(["model.hidden="]).model.hidden == ()
    tuned = Recipe(optimizer={"name": "adam", "lr": 0.3})
    assert tuned.with_(["optimizer=adam"]).optimizer.lr == 0.3
    assert tuned.with_(["optimizer=sgd"]).optimizer.lr == OPTIMIZERS["sgd"].defaults["lr"]
    assert Recipe().with_(epochs=4, **{"optimizer.lr": 0.2}).optimizer.lr == 0.2
    assert Recipe(model="a.b:c").with_(["model.args.width=3"]).model.args == {"width": 3}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("lrr=1", "did you mean `lr`?"),
        ("eps=1", "could be `optimizer.eps` or `penalty.eps`"),
        ("epochs", "is not an override; write key=value"),
        ("optimizer.lr=fast", "`optimizer.lr` is 'fast', but must be a number"),
    ],
)
def test_bad_overrides_are_refused(override: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe().with_([override])
    assert sentence in str(caught.value)


def test_recipes_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Recipe().epochs = 3  # type: ignore[misc]


def test_diff_lists_the_fields_that_differ() -> None:
    assert Recipe().diff(Recipe(epochs=3)) == [("epochs", 10, 3)]


@pytest.mark.parametrize("name", presets())
def test_presets_are_recipes(name: str) -> None:
    assert Recipe.from_toml(Recipe.read(name).to_toml()) == Recipe.read(name)


def test_read_takes_a_file_or_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text("epochs = 3")
    assert Recipe.read(str(file)).epochs == 3
    with pytest.raises(RecipeError, match="did you mean 'digits'"):
        Recipe.read("digit")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="is not UTF-8"):
        Recipe.read(str(file))


def test_every_field_is_described_and_in_the_schema() -> None:
    assert all(info.description for info in fields().values())
    schema = json.dumps(Recipe.model_json_schema())
    assert all(path.rpartition(".")[2] in schema for path in fields())
