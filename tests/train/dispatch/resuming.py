"""What tests of resuming share: the recipe, and what must be the same at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from danlu import Recipe, Run, files, fit, load
from danlu.train.engine.loop import Loop

RECIPE = Recipe.read("digits").with_(
    [
        "epochs=5",
        "model.dropout=0.2",
        "model.batch_norm=before",
        "early_stopping.patience=4",
        "augment.rotate=5",
        "batch_size=16",
    ]
)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return files.read_tensors(path / "weights.safetensors")


def rows(path: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in r.items() if k != "seconds"} for r in Run(path).history]


def assert_same(path: Path, whole: Path) -> None:
    a, b = weights(path), weights(whole)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert rows(path) == rows(whole)
    assert Run(path).measured().num_rows > 0
    assert Run(path).measured().equals(Run(whole).measured())
    strip = lambda r: {k: v for k, v in r.items() if k != "seconds"}  # noqa: E731
    assert strip(Run(path).result) == strip(Run(whole).result)


pause = Loop._between_steps


def part_way(path: Path, steps: int = 70, recipe: Recipe = RECIPE, source: str = "digits") -> Run:
    """A run stopped in the middle of an epoch, with two checkpoints."""

    class Enough(Exception):
        pass

    save = Loop.save

    def save_and_stop(self: Loop) -> None:
        save(self)
        if self.steps == steps:
            raise Enough

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Enough):
        patch.setattr(Loop, "save", save_and_stop)
        fit(recipe, load(source), out=path, checkpoint_every=0.0)
    assert len(list(path.glob("checkpoint/*.safetensors"))) == min(2, steps)
    return Run(path)
