"""Epochs are validated where a figure of the validation part is asked for, or a recipe needs one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from danlu import Recipe, load
from danlu.train import train

DATA = load("iris")
PLAIN = Recipe(epochs=4, batch_size=16)
NEEDS = {
    "early stopping": ["early_stopping.patience=2"],
    "plateau": ["schedule=plateau"],
}


def test_what_nobody_asks_for_is_not_computed_and_changes_no_bit(tmp_path: Path) -> None:
    asked = train([PLAIN], DATA, out=tmp_path / "a", parts=("train", "valid"))
    unasked = train([PLAIN], DATA, out=tmp_path / "b", parts=("train",))
    assert asked.curves()["valid_loss"].notna().all()
    assert "valid_loss" not in unasked.curves()
    for one, other in zip(
        asked.run(0, DATA).model().parameters(), unasked.run(0, DATA).model().parameters(), strict=True
    ):  # fmt: skip
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NEEDS)
def test_what_a_recipe_depends_on_is_computed_all_the_same(tmp_path: Path, name: str) -> None:
    study = train([PLAIN.with_(NEEDS[name])], DATA, out=tmp_path / "s", parts=("train",))
    assert study.curves()["valid_loss"].notna().all()
