"""Mistakes: sentences in one grammar that carry what they are made of."""

from __future__ import annotations

import pickle

import pytest

from danlu import Recipe
from danlu.errors import Mistake, RecipeError, count, reason_of, some, unknown, wrong


def test_a_mistake_is_a_sentence_and_its_parts() -> None:
    mistake = wrong("optimizer.lr", -0.1, "must be greater than 0", "try 0.01")
    assert mistake == "`optimizer.lr` is -0.1, but must be greater than 0; try 0.01"
    assert (mistake.path, mistake.value) == ("optimizer.lr", -0.1)
    assert (mistake.rule, mistake.hint) == ("must be greater than 0", "try 0.01")
    noted = mistake.with_note("(recipe 1 of 3)")
    assert noted.endswith("try 0.01 (recipe 1 of 3)") and noted.path == "optimizer.lr"


def test_mistakes_of_recipes_carry_path_value_rule_and_hint() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe(optimizer={"name": "sgd", "lr": -1}, epochs=0, model="resnet19")
    parts = {m.path: (m.value, m.rule, m.hint) for m in caught.value.mistakes}
    assert parts["optimizer.lr"] == (-1, "must be greater than 0", "try 0.01")
    assert parts["epochs"][0] == 0
    assert parts["model.name"][0] == "resnet19"
    assert "did you mean 'resnet1" in str(parts["model.name"][2])


def test_a_plain_sentence_is_a_mistake_without_a_path() -> None:
    (mistake,) = RecipeError("something else is wrong").mistakes
    assert isinstance(mistake, Mistake) and mistake.path is None


def test_the_nearest_name_is_a_hint() -> None:
    assert unknown("model.name", "resnet-81", ["resnet18", "vgg16"]).hint == (
        "did you mean 'resnet18'?"
    )
    assert unknown("model.name", "zzz", ["resnet18"]).hint is None


def test_errors_survive_pickling() -> None:
    error = RecipeError(wrong("epochs", 0, "must be at least 1"))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.mistakes[0].path == "epochs"


def test_counts_take_the_plural_and_long_lists_are_cut() -> None:
    assert [count(n, "row") for n in (1, 2, 1000)] == ["1 row", "2 rows", "1,000 rows"]
    assert some("abcde") == "a, b, c and 2 more"


def test_an_error_without_words_is_called_by_its_kind() -> None:
    assert reason_of(AssertionError()) == "AssertionError"
    assert reason_of(ValueError(" \n")) == "ValueError"
    assert reason_of(ValueError("one\ntwo")) == "one"


def test_every_error_survives_pickling() -> None:
    """A process pool hangs on one that does not."""
    import inspect
    import pickle

    from danlu import errors

    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.DanluError)
    ]
    assert errors.Diverged in kinds
    for kind in kinds:
        error = kind(errors.wrong("optimizer.lr", -1, "must be more", "try 1"), "second")
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind and str(again) == str(error)
        assert again.mistakes[0].path == "optimizer.lr" and again.mistakes[0].value == -1
    diverged = pickle.loads(pickle.dumps(errors.Diverged("x", step=3, layer="dense1")))
    assert (diverged.step, diverged.layer) == (3, "dense1")
