"""Commands on recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_every_recipe_subcommand_prints_its_answer(
    danlu: Any, tmp_path: Path, digits_run: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(danlu("recipe", "show", "digits", "epochs=7").out)
    assert danlu("recipe", "check", file).out == "no mistakes\n"
    assert "epochs" in danlu("recipe", "diff", "digits", file).out
    assert danlu("recipe", "diff", file, file).out == "no difference\n"
    assert json.loads(danlu("recipe", "diff", file, digits_run, "--json").out)
    assert "batch_size" in danlu("recipe", "check", file, "--source", "iris", "batch_size=1000").err
    assert "torch.randperm" in danlu("recipe", "show", "epochs=2", "--as-code").out
    assert "model.dropout" in danlu("recipe", "fields").out
    assert "digits" in danlu("recipe", "presets").out
    assert json.loads(danlu("recipe", "schema").out)["properties"]["epochs"]["description"]


def test_help_lists_the_fields_with_their_docstrings(danlu: Any) -> None:
    out = danlu("fit", "--help").out
    assert "optimizer.lr" in out
    assert "Learning rate α." in out
