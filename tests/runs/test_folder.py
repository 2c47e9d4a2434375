"""Making folders, and refusing what lies in them."""

from __future__ import annotations

import os
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from danlu import Recipe, Run, fit, load
from danlu.errors import RunError
from danlu.guest import as_guest
from danlu.runs import folder


def test_a_folder_that_another_process_made_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_process(root: Path) -> None:
        (root / "run").mkdir()
        (root / "run" / "theirs").write_text("mine")

    monkeypatch.setattr(folder, "_remove_leftovers", other_process)
    with pytest.raises(RunError, match="exists and is not empty"):
        folder.create(tmp_path / "run", "x", "run.json", {"a": "b"}, {})
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing is left beside it"


def test_an_empty_folder_that_is_there_is_filled(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    inode = (tmp_path / "run").stat().st_ino
    fit(Recipe(epochs=1), load("iris"), out=tmp_path / "run")
    assert Run(tmp_path / "run").status == "finished"
    assert (tmp_path / "run").stat().st_ino == inode, "it may be mounted, or where the user is"


def test_any_link_within_is_refused(tmp_path: Path) -> None:
    run = fit(Recipe(epochs=1), load("iris"), out=tmp_path / "run")
    (tmp_path / "mine").write_text("")
    (run.path / "notes.txt").symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match=r"notes.txt is a link"):
        Run(run.path)


def test_a_guest_puts_back_whatever_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANLU_HOST", "1")

    def state() -> object:
        numpy_s = np.random.get_state()[1].tolist()  # noqa: NPY002
        of_torch = torch.get_rng_state().tolist()
        filters = list(warnings.filters)
        variables = dict(os.environ)
        return random.getstate(), numpy_s, of_torch, list(sys.path), filters, variables

    before = state()
    with as_guest():
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(1)
        sys.path.append("/nowhere")
        warnings.simplefilter("ignore")
        os.environ["DANLU_NEW"] = "1"
        del os.environ["DANLU_HOST"]
        assert state() != before
    assert state() == before
