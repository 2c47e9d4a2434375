"""Columns as features, fitted on the training part, and new rows read by them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from samples import quietly

from danlu import Recipe, Run, fit, load
from danlu.data.normalize import KINDS
from danlu.data.tables.rows import encode_rows
from danlu.errors import DataError, DataNotice
from danlu.models.table import TableInput


def towns(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    town = rng.integers(0, 30, n)
    return pd.DataFrame(
        {
            "town": [f"t{k}" for k in town],
            "age": rng.normal(40, 10, n),
            "day": pd.date_range("2023-01-01", periods=n, freq="9h").astype(str),
            "label": np.where(town % 2 == 0, "even", "odd"),
        }
    )


def test_categories_of_many_levels_are_looked_up(tmp_path: Path) -> None:
    data = quietly(towns())
    ((place, levels),) = data.schema.embeddings
    town = data.schema.columns[0]
    assert (place, town.width, levels) == (0, 1, len(town.levels) + 1) and town.has_other
    numbers = data.x[:, 0].long()
    names = [*town.levels, "other"]
    assert [names[k] for k in numbers[:50].tolist()] == [
        t if t in town.levels else "other" for t in towns()["town"][:50]
    ]
    assert torch.equal(data.normalizer("zscore")(data.x)[:, 0], data.x[:, 0])
    recipe = Recipe(model={"name": "table"}, epochs=20, optimizer={"name": "adam", "lr": 0.01})
    run = fit(recipe, data, out=tmp_path / "run")
    assert run.result["test_accuracy"] > 0.9
    assert isinstance(run.model()[0], TableInput)


def test_table_networks_look_up_what_one_hot_vectors_would_give() -> None:
    layer = TableInput(3, ((1, 25),)).double()
    layer.reset_weights(lambda name, w, rule: torch.nn.init.normal_(w), 0.0)
    x = torch.tensor([[0.5, 3.0, -1.0], [2.0, 24.0, 1.0]], dtype=torch.float64)
    weight = layer.get_parameter("levels1")
    one_hot = torch.nn.functional.one_hot(x[:, 1].long(), 25).double()
    want = torch.cat([x[:, [0, 2]], one_hot @ weight], 1)
    assert torch.equal(layer(x), want)
    layer(x).square().sum().backward()
    assert torch.allclose(weight.grad, one_hot.T @ (2 * (one_hot @ weight)).detach())


@pytest.mark.parametrize("kind", KINDS)
def test_only_numbers_are_standardised(kind: str) -> None:
    frame = towns().assign(colour=["red", "blue"] * 200)
    frame.loc[::11, "age"] = None
    data = quietly(frame)
    measured = torch.tensor(data.schema.is_measured)
    names = [name for column in data.schema.columns for name in column.features]
    assert {name for name, m in zip(names, measured, strict=True) if m} <= {"age", "day year"}
    out = data.normalizer(kind)(data.x)
    assert torch.equal(out[:, ~measured], data.x[:, ~measured])
    if kind in ("zscore", "whiten"):
        train = out[data.parts["train"]][:, measured].double()
        assert train.mean(0).abs().max() < 1e-5
        assert (train.std(0, correction=0) - 1).abs().max() < 1e-3


def test_dates_are_their_year_and_places_on_circles() -> None:
    frame = pd.DataFrame(
        {
            "when": ["2020-01-01 00:00", "2021-07-01 12:00", "2022-12-31 18:00", "2023-01-01 06:00"] * 15,
            "a": np.arange(60.0),
            "label": [0, 1] * 30,
        }
    )  # fmt: skip
    data = quietly(frame)
    column = data.schema.columns[0]
    assert column.features == [
        "when year", "when month sin", "when month cos", "when weekday sin", "when weekday cos",
        "when hour sin", "when hour cos",
    ]  # fmt: skip
    x = data.x[:4].numpy()
    assert x[:, 0].tolist() == [2020, 2021, 2022, 2023]
    assert np.allclose(x[0, 1:3], [0, 1]) and np.allclose(x[1, 1:3], [0, -1], atol=1e-6)
    # The last day of a year is next to the first.
    assert np.abs(x[2, 1:3] - x[3, 1:3]).max() < 0.02
    assert np.allclose(x[1, 5:7], [0, -1], atol=1e-6)


@pytest.mark.parametrize("source", ["csv", "frame", "arrays"])
def test_columns_far_from_0_keep_what_differs(source: str, tmp_path: Path) -> None:
    """Time stamps, 100000 ± 0.01, numbers beyond float32."""
    rng = np.random.default_rng(0)
    wave = rng.normal(size=300)
    x = np.stack([1.7e9 + wave, 1e5 + 0.01 * wave, 1e300 * wave, 1e-300 * wave], 1)
    y = (wave > 0).astype(int)
    frame = pd.DataFrame(x, columns=list("abcd")).assign(label=y)
    frame.to_csv(tmp_path / "t.csv", index=False)
    given = {"csv": tmp_path / "t.csv", "frame": frame, "arrays": (x, y)}[source]
    data = quietly(given)
    out = data.normalizer("zscore")(data.x).double().numpy()
    for column in out.T:
        assert abs(np.corrcoef(column, wave)[0, 1]) > 0.99999
    run = fit(Recipe(epochs=20, optimizer={"name": "adam", "lr": 0.01}), data, out=tmp_path / "run")
    assert run.result["test_accuracy"] > 0.9
    new = x[:5] if source == "arrays" else frame[:5]
    predicted = run.predict(new).values
    assert torch.equal(predicted, run.predict(x[:5]).values)


def test_targets_far_from_0_are_learnt(tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 300)[:, None]
    data = load((x, 1.7e9 + x[:, 0]))
    recipe = Recipe(epochs=40, batch_size=16, optimizer={"name": "adam", "lr": 0.01})
    assert fit(recipe, data, out=tmp_path / "run").result["test_r2"] > 0.99


def test_the_logarithm_of_a_target_is_learnt_and_its_own_units_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=500), "b": rng.normal(size=500)})
    frame["price"] = np.exp(2 * frame["a"] + 10)
    data = quietly(frame, target="price", log_target=True)
    recipe = Recipe(epochs=60, optimizer={"name": "adam", "lr": 0.01})
    run = fit(recipe, data, out=tmp_path / "run")
    x, y = data.part("test")
    predicted = run.predict(x).values.double()
    errors = (predicted - y.double()).square().sum()
    r2 = 1 - errors / (y.double() - y.double().mean()).square().sum()
    assert run.result["test_r2"] == pytest.approx(float(r2), abs=1e-3)
    assert float(((predicted / y.double()).log()).abs().median()) < 0.2
    with pytest.raises(DataError, match="only numbers above 0 have a logarithm"):
        quietly(frame.assign(price=frame["price"] - 1e4), target="price", log_target=True)


def test_new_rows_are_read_by_the_run_s_columns_in_any_order(tmp_path: Path) -> None:
    frame = towns().drop(columns="day")
    frame["id"] = range(1000, 1400)
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    data = quietly(path)
    run = fit(Recipe(model={"name": "table"}, epochs=3), data, out=tmp_path / "run")
    want = run.predict(data.x[:4]).values
    rows = frame[["label", "age", "id", "town"]][:4]
    assert data.schema.identifiers == ("id",)
    assert torch.equal(run.predict(rows).values, want)
    assert torch.equal(run.predict(rows.drop(columns="label").to_dict("records")).values, want)
    assert torch.equal(run.predict(rows.to_dict("list")).values, want)
    assert torch.equal(run.predict(rows.iloc[0].to_dict()).values, want[:1])
    with pytest.raises(DataError, match="lacks the column 'age'"):
        run.predict(rows.drop(columns="age"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.predict(rows.assign(age="old"))
    assert any(issubclass(w.category, DataNotice) and "no number" in str(w.message) for w in caught)
    known, _ = encode_rows(rows, data.schema.columns, "rows", 1 << 30)
    assert np.array_equal(known, data.x[:4].numpy())


def test_other_rows_are_scored_whole_and_unknown_classes_count_as_errors(tmp_path: Path) -> None:
    frame = towns().drop(columns="day")
    run = fit(Recipe(model={"name": "table"}, epochs=30), quietly(frame), out=tmp_path / "run")
    schema = Run(tmp_path / "run").schema
    whole = quietly(frame, like=schema)
    assert whole.size("test") == 400 == run.evaluate(whole).n
    one = quietly(frame[:1], like=schema)
    assert run.evaluate(one).n == 1
    same = quietly(frame[frame["label"] == "even"], like=schema)
    assert run.evaluate(same).n == (frame["label"] == "even").sum()
    odd = frame[:100].copy()
    odd.loc[:49, "label"] = "prime"
    strange = quietly(odd, like=schema)
    right = run.evaluate(quietly(frame[50:100], like=schema)).accuracy * 50
    assert run.evaluate(strange).accuracy == pytest.approx(right / 100)
    assert "50 rows of the data frame with 'prime'" in strange.notices[0]
    with pytest.raises(DataError, match="lacks the target 'label'"):
        quietly(frame.drop(columns="label"), like=schema)
