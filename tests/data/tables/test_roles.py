"""What each column of a table is taken for, and how its cells are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import quietly, refused

from danlu.data.tables import cells
from danlu.data.tables.roles import Overrides, read_columns
from danlu.data.tables.target import read_target

N = 60
RNG = np.random.default_rng(0)
WORDS = ["the cat sat on the mat and then it ran", "a dog barked at the man in the street"]
COLUMNS = {
    # name: (cells, role)
    "PassengerId": ([str(k + 1) for k in range(N)], "identifier"),
    "": ([str(k) for k in range(N)], "identifier"),
    "customer_id": ([str(9000 + 7 * (k * 37 % N)) for k in range(N)], "identifier"),
    "code": ([f"{k * 7919 % 9973:04x}-x" for k in range(N)], "identifier"),
    "zip": ([f"0{1000 + k % 5}" for k in range(N)], "category"),
    "age": ([str(20 + k % 40) for k in range(N)], "number"),
    "price": ([f"${1000 + 37 * k:,}.50" for k in range(N)], "number"),
    "share": ([f"{k % 50}.5 %" for k in range(N)], "number"),
    "euro": ([f"{k % 50},06" for k in range(N)], "number"),
    "gaps": ([("?", "NA", "-", "", "3.5", "4")[k % 6] for k in range(N)], "number"),
    "colour": ([("red", "blue", "green")[k % 3] for k in range(N)], "category"),
    "same": (["x"] * N, "constant"),
    "void": ([""] * N, "empty"),
    "when": ([f"2024-0{1 + k % 9}-1{k % 10}" for k in range(N)], "date"),
    "us": ([f"{1 + k % 12}/{1 + k % 28}/2020 10:30" for k in range(N)], "date"),
    "german": ([f"{1 + k % 28:02}.{1 + k % 12:02}.2020" for k in range(N)], "date"),
    "words": ([f"{WORDS[k % 2]} {k}" for k in range(N)], "text"),
    "chinese": ([f"今天天气很好我们去公园玩吧第{k}次" for k in range(N)], "text"),
}  # fmt: skip


def frame_of(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: COLUMNS[name][0] for name in names}, dtype="string")


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_gets_the_role_that_is_in_it(name: str) -> None:
    frame = frame_of(
        [name, "age" if name != "age" else "colour", "colour" if name != "colour" else "age"]
    )
    reading = next(r for r in read_columns(frame, None, Overrides()) if r.name == name)
    assert reading.role == COLUMNS[name][1], reading


@pytest.mark.parametrize(
    ("written", "number"),
    [
        (["1,234", "12", "1,000,000.5"], [1234, 12, 1000000.5]),
        (["$2.39 ", "$10.98"], [2.39, 10.98]),
        (["45 %", "7%"], [45, 7]),
        (["45,06", "-3,5", "1.234,5"], [45.06, -3.5, 1234.5]),
        (["(12)", "3"], [-12, 3]),
        (["1e-3", "+4."], [0.001, 4]),
        (["€ 1 234,50", "12"], [1234.5, 12]),
    ],
)
def test_numbers_are_read_as_people_write_them(written: list[str], number: list[float]) -> None:
    style, found = cells.number_style(pd.Series(written, dtype="string"))
    np.testing.assert_allclose(found, number)
    again = cells.to_numbers(pd.Series(written, dtype="string"), style)
    np.testing.assert_allclose(again, number)


@given(st.lists(st.floats(-1e9, 1e9).map(lambda v: round(v, 2)), min_size=1, max_size=20))
def test_a_number_is_read_back_in_every_style(numbers: list[float]) -> None:
    def german(text: str) -> str:
        return text.replace(",", "#").replace(".", ",").replace("#", ".")

    for style, write in (
        (cells.PLAIN, repr),
        ("1,234.5", lambda v: f"{v:,.2f}"),
        (cells.DECIMAL_COMMA, lambda v: german(f"{v:,.2f}")),
    ):
        written = pd.Series([write(v) for v in numbers], dtype="string")
        np.testing.assert_allclose(cells.to_numbers(written, style), numbers, rtol=1e-12)


def test_a_comma_alone_means_what_the_rest_of_the_table_says() -> None:
    thousands = pd.DataFrame(
        {"a": ["1,234", "2,500"] * 20, "b": ["1.5", "2.5"] * 20}, dtype="string"
    )
    decimals = pd.DataFrame(
        {"a": ["1,234", "2,500"] * 20, "b": ["1,5", "2,25"] * 20}, dtype="string"
    )
    (a, _) = read_columns(thousands, None, Overrides())
    assert a.values.iloc[0] == 1234
    (a, _) = read_columns(decimals, None, Overrides())
    assert a.values.iloc[0] == 1.234


def test_one_list_among_thousands_does_not_make_decimals_of_them(tmp_path: Path) -> None:
    rows = [f'"{1 + k % 9},{100 + k}","{2 + k % 5},{200 + k}"' for k in range(30)]
    (tmp_path / "t.csv").write_text("\n".join(["a,y", *rows, '"3,5","2,300"']))
    data = quietly(tmp_path / "t.csv", target="y")
    assert float(data.x[0, 0]) == 1100 and float(data.y[0]) == 2200


def test_dots_between_thousands_are_told_by_decimal_commas_beside_them(tmp_path: Path) -> None:
    rows = [f"{1 + k % 9}.{100 + k};{k},5;{2 + k % 5}.{200 + k}" for k in range(30)]
    (tmp_path / "t.csv").write_text("\n".join(["a;b;y", *rows]))
    data = quietly(tmp_path / "t.csv", target="y")
    assert data.x[0].tolist() == [1100, 0.5] and float(data.y[0]) == 2200
    plain = [f"{1 + k % 9}.{100 + k};{k}.5;{2 + k % 5}.{200 + k}" for k in range(30)]
    (tmp_path / "u.csv").write_text("\n".join(["a;b;y", *plain]))
    data = quietly(tmp_path / "u.csv", target="y")
    assert data.x[0].tolist() == pytest.approx([1.1, 0.5]) and float(data.y[0]) == pytest.approx(
        2.2
    )


@pytest.mark.parametrize("name", ["paid", "bid", "grid", "covid", "price_index"])
def test_amounts_are_no_identifiers(name: str) -> None:
    frame = pd.DataFrame({name: [100 + 7 * (k * 37 % N) for k in range(N)], "x": range(N)})
    (found, _) = read_columns(frame, None, Overrides())
    assert found.role == "number"


def test_days_and_months_are_told_by_a_day_beyond_12_and_else_said() -> None:
    def read(days: list[str]) -> tuple[pd.Timestamp, tuple[str, ...]]:
        frame = pd.DataFrame({"d": days * 15, "x": range(30)})
        (found, _) = read_columns(frame, None, Overrides())
        return found.values.iloc[0], found.notices

    assert read(["03/04/2020", "25/12/2020"]) == (pd.Timestamp(2020, 4, 3), ())
    assert read(["03/04/2020", "12/25/2020"]) == (pd.Timestamp(2020, 3, 4), ())
    when, notices = read(["03/04/2020", "05/06/2020"])
    assert when == pd.Timestamp(2020, 3, 4) and "read with the month first" in notices[0]


def test_left_out_columns_are_told_and_may_be_decided_otherwise(tmp_path: Path) -> None:
    names = ["PassengerId", "age", "words", "same", "colour"]
    frame = frame_of(names).assign(label=["yes", "no"] * 30)
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    data = quietly(path)
    assert [column.name for column in data.schema.columns] == ["age", "colour"]
    told = " ".join(data.notices)
    assert "left out: PassengerId (names rows); --keep takes it in" in told
    assert "left out: words (free text); --text words learns from it alone" in told
    assert "left out: same (the same in every row)" in told
    kept = quietly(path, keep="PassengerId", drop="colour", category="age")
    kinds = {column.name: column.kind for column in kept.schema.columns}
    assert kinds == {"PassengerId": "number", "age": "category"}
    assert not any("colour" in notice for notice in kept.notices)
    text = quietly(path, text="words")
    assert text.schema.is_text and text.schema.text_column == "words"
    assert text.schema.classes == ("no", "yes")
    assert "`number` is 'colour', but must hold numbers, but has 'red'" in refused(
        path, number="colour"
    )


def test_a_table_of_free_texts_asks_which_one(tmp_path: Path) -> None:
    frame = frame_of(["words", "chinese"]).assign(
        c=frame_of(["words"])["words"].str[::-1], label=["a", "b"] * 30
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert "try --text words" in refused(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["007", "7"] * 20, None, ("007", "7")),
        (["10", "9", "2"] * 20, None, ("2", "9", "10")),
        ([1.0, 0.0] * 20, None, ("0", "1")),
        ([-1, 1] * 20, None, ("-1", "1")),
        ([True, False] * 20, None, ("False", "True")),
        (["EU", "NA", "None", "null"] * 20, None, ("EU", "NA", "None", "null")),
        (list(range(40)), None, ()),
        (list(range(100)) * 20, None, tuple(map(str, range(100)))),
        ([17 + k % 60 for k in range(6000)], None, ()),
        ([2.5, 3.5] * 20, None, ()),
        (["1,5", "2,5"] * 20, "regression", ()),
        ([3, 4] * 20, "regression", ()),
    ],
)  # fmt: skip
def test_classes_and_numbers_are_told_apart_by_one_rule(
    values: list[object], task: str | None, classes: tuple[str, ...]
) -> None:
    found = [read_target(pd.Series(values, name="y"), task, "the data")]
    # The same cells as a file has them.
    text = pd.Series([str(v) for v in values], name="y", dtype="string")
    if not any(isinstance(v, float) for v in values) or not classes:
        found.append(read_target(text, task, "t.csv", comma_is_decimal=True))
    for target in found:
        assert target.classes == classes
        assert target.is_there.all()
    if classes:
        assert [classes[k] for k in found[0].y[:2]] == [
            f"{v:g}" if isinstance(v, float) else str(v) for v in values[:2]
        ]


def test_an_empty_cell_is_missing_among_class_names_and_na_is_told() -> None:
    target = read_target(pd.Series(["EU", "NA", "", "EU"] * 9, name="y"), None, "t.csv")
    assert target.classes == ("EU", "NA") and int(target.is_there.sum()) == 27
    assert "'NA' in the target y is taken as a class" in target.notices
