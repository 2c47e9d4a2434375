"""Networks that look categories up, trained together, against each trained alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from populations import equal_alone

from danlu import Recipe, load
from danlu.train import train


@pytest.mark.parametrize("model", ["table", "dense", "softmax"])
def test_a_member_that_looks_categories_up_equals_its_recipe_alone(
    tmp_path: Path, model: str
) -> None:
    rng = np.random.default_rng(0)
    town = rng.integers(0, 40, 240)
    frame = pd.DataFrame({"size": rng.normal(size=240), "town": [f"t{k}" for k in town]})
    frame["kind"] = np.where(town % 3 == 0, "a", "b")
    data = load(frame, target="kind")
    assert data.schema.embeddings
    recipes = [
        Recipe(
            model={"name": model, "hidden": (6,) if model != "softmax" else ()},
            optimizer={"name": "adam", "lr": 0.01 * (k + 1)},
            batch_size=32,
            epochs=3,
            dtype="float64",
            seed=k,
            average={"name": "ema"},
        )
        for k in range(3)
    ]
    study = train(recipes, data, out=tmp_path / "study")
    assert [p["population_size"] for p in study.info["plans"]] == [3], study.info["plans"]
    equal_alone(study, recipes, data, tmp_path)
